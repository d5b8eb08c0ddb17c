"""Deploys a version to where it is served: compare, deploy, probe, roll back."""
