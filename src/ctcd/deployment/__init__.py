"""Brings the champion to where it is served: check, deploy, probe, and back again."""
