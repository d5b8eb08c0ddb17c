"""The command line: one verb a stage, the same one that workflows, DAGs and people call."""

from ctcd.cli.app import main

__all__ = ["main"]
