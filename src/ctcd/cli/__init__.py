"""The command line: one command for each stage, which workflows, DAGs and people call."""

from ctcd.cli.app import main

__all__ = ["main"]
