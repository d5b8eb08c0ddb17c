"""The stages of the loop, one function each: what commands, workflows and DAGs run.

A stage connects to what the settings name, does its work through the library and returns a report of plain values.
Heavy packages are imported by the stage that needs them, so that each starts fast.
"""
