"""The `ctcd` command: which commands it has, and how their errors are shown."""

import gc
import os
import shutil
import sys
from collections.abc import Mapping
from errno import ELOOP
from functools import partial
from importlib import import_module
from json import dumps
from typing import Any, NamedTuple

import typer
import typer.core
import typer.main
from rich.table import Table

from ctcd.cli.options import EXIT_CODES, epilog
from ctcd.cli.output import err, out
from ctcd.errors import CtcdError, UsageError, shown
from ctcd.settings import bypass_proxies_for_loopback


class Entry(NamedTuple):
    """A command as the help lists it.

    Args:
        module: module of this package whose function, or group, of the same name it is.
        example: a call of it; empty for a group, whose commands have examples of their own.
    """

    stage: str
    module: str
    summary: str
    example: str = ""


COMMANDS = {
    "demo": Entry("Start", "demo", "Run every stage once, embedded: no server, no Docker", "ctcd demo --rows 5000"),
    "config": Entry("Start", "data", "Show the settings in force, secrets masked", "ctcd config --json"),
    "init": Entry("Start", "init", "Draft an instance from a table", "ctcd init wine.csv --label cultivar --replace"),
    "contract": Entry("Start", "contract", "Check the contract, lock what is derived from it, compare revisions"),
    "generate": Entry("Data", "data", "Write synthetic raw tables", "ctcd generate raw --rows 5000"),
    "migrate": Entry("Data", "data", "Bring the feature store's schema up to date", "ctcd migrate"),
    "ingest": Entry("Data", "data", "Load raw tables into the feature store", "ctcd ingest raw"),
    "snapshot": Entry("Data", "data", "Take a day's training snapshot", "ctcd snapshot --base-dt 2025-08-31"),
    "validate": Entry("Data", "data", "Check a snapshot against the contract", "ctcd validate --base-dt 2025-08-31"),
    "monitor": Entry(
        "Data", "monitor", "Compare a snapshot with the last accepted one", "ctcd monitor --accept-change"
    ),
    "train": Entry("Model", "model", "Train on a snapshot", "ctcd train --profile full"),
    "training": Entry("Model", "training", "Train in steps, each trial in a process of its own"),
    "gate": Entry("Model", "model", "Decide whether a model may be promoted", "ctcd gate --version 7"),
    "promote": Entry("Model", "model", "Make a version that passed the gate the champion", "ctcd promote --version 7"),
    "models": Entry("Model", "model", "List the versions: verdict, promotion, rollback", "ctcd models"),
    "why": Entry("Model", "model", "Show what the gate decided about a version", "ctcd why 7"),
    "compare": Entry("Model", "model", "Show two versions side by side", "ctcd compare 7 8 --html compared.html"),
    "build": Entry("Release", "deployment", "Build a version's Bento", "ctcd build --version 7"),
    "image": Entry("Release", "deployment", "Print the image released for a version", "ctcd image --version 7"),
    "deploy": Entry(
        "Release",
        "deployment",
        "Deploy the champion, or a version that passed the gate",
        "ctcd deploy --target compose --version 7 --image registry.example/api@sha256:... --promote",
    ),
    "smoke": Entry("Release", "deployment", "Compare a deployment's answers with its model's", "ctcd smoke"),
    "rollback": Entry(
        "Release",
        "deployment",
        "Go back to the previous champion",
        'ctcd rollback --target compose --reason "too many complaints"',
    ),
    "stop": Entry("Release", "deployment", "Stop what is deployed", "ctcd stop --target compose"),
    "traffic": Entry("Release", "traffic", "Give a challenger some of the requests, and judge it on them"),
    "serve": Entry("Predict", "scoring", "Serve the champion until Ctrl-C", "ctcd serve --port 3000"),
    "consume": Entry("Predict", "scoring", "Answer the requests of a message broker", "ctcd consume"),
    "predict": Entry("Predict", "scoring", "Score a file or a table with the champion", "ctcd predict --new"),
    "lookup": Entry(
        "Log", "scoring", "Show how a request was answered", "ctcd lookup 2acfb25a-b729-43d7-8f27-b96332e26ac1"
    ),
    "replay": Entry(
        "Log", "audit", "Compute logged answers again", "ctcd replay --from 2025-08-30 --to 2025-08-31 --sample 1000"
    ),
    "history": Entry(
        "Log", "audit", "Show what answered when, and who changed it", "ctcd history --at 2025-08-31T12:30:05"
    ),
    "export": Entry("Log", "scoring", "Copy the prediction log to a warehouse", "ctcd export s3://bucket/predictions"),
    "retain": Entry("Log", "scoring", "Delete the oldest months of the prediction log", "ctcd retain --partition"),
    "outbox": Entry("Log", "outbox", "List, retry or export predictions that the store refused"),
    "drift": Entry("Monitor", "monitor", "Compare a day's rows with the training data", "ctcd drift --period weekly"),
    "performance": Entry(
        "Monitor", "scoring", "Compare past predictions with their labels", "ctcd performance --period weekly"
    ),
    "report": Entry("Monitor", "monitor", "Write a site of pages about data, models and predictions", "ctcd report"),
    "findings": Entry("Monitor", "findings", "List, show or close what monitors have found"),
}
SHORT = {"promote", "models", "why", "compare", "image", "history"}
"""Commands that query or change the registry, and end before the garbage collector would find anything."""
INTERRUPTED = 130, "interrupted; the command can be run again"
SETTINGS: dict[str, Any] = {"add_completion": False, "pretty_exceptions_enable": False, "rich_markup_mode": "rich"}


def load(name: str) -> Any:
    """Import the module of a command, or of a group of commands, and return it with its options."""
    entry = COMMANDS[name]
    found = getattr(import_module(f"ctcd.cli.{entry.module}"), name)
    if not isinstance(found, typer.Typer):
        function, found = found, typer.Typer(**SETTINGS)
        found.command(name, epilog=epilog(entry.example))(function)
    command = typer.main.get_command(found)
    for each in (command, *getattr(command, "commands", {}).values()):
        for param in each.params:
            if param.type_descriptor.is_path:
                param.consume_value = partial(_consumed, param)
    return command


def _consumed(param: Any, ctx: Any, given: Mapping[str, Any]) -> Any:
    """Take an empty path, mostly of a variable that is not set, as not given: for Python it is the current folder."""
    return type(param).consume_value(param, ctx, {name: value for name, value in given.items() if value != ""})


class LazyGroup(typer.core.TyperGroup):
    """Lists the commands without importing them: only the one that is called, or whose options are asked for, is."""

    def __init__(self, **attributes: Any) -> None:
        listed = {
            name: typer.core.TyperCommand(name, help=entry.summary, rich_help_panel=entry.stage)
            for name, entry in COMMANDS.items()
        }
        super().__init__(**attributes | {"commands": listed})

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the called command, now with its options, and its arguments."""
        name, found, rest = super().resolve_command(ctx, args)
        if name not in SHORT:
            gc.set_threshold(50_000)
            gc.enable()
        return name, found and load(str(name)), rest

    def invoke(self, ctx: Any) -> Any:
        """Run the called command.

        Raises:
            CtcdError: code of the instance tried to end the process; its exit code may be 0, which would mean success.
        """
        try:
            return super().invoke(ctx)
        except SystemExit as ended:
            raise CtcdError(
                f"the instance's code, such as its estimator, called sys.exit({ended.code!r})",
                hint="raise an error there",
            ) from ended

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - as typer does, it prints
        """Print the help: on one screen, which one panel for each stage would not fit."""
        rows = Table.grid(padding=(0, 2))
        stage = ""
        for name, entry in COMMANDS.items():
            rows.add_row(entry.stage if entry.stage != stage else "", name, entry.summary)
            stage = entry.stage
        rows.columns[0].style, rows.columns[1].style = "dim", "bold cyan"
        out.print(ctx.get_usage(), self.help, rows, sep="\n", soft_wrap=False)
        options = ", ".join(name for option in self.get_params(ctx) for name in option.opts)
        out.print(f"Options: {options}", EXIT_CODES, sep="\n", soft_wrap=False)


app = typer.Typer(cls=LazyGroup, **SETTINGS | {"add_completion": True}, no_args_is_help=True)


@app.callback()
def ctcd() -> None:
    """Train, gate, promote and serve a model whose contracts decide what ships."""


def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code.

    An error is one line on standard error, the last one: text, or a JSON object if the command was to print JSON.
    """
    code, error = 0, ""
    try:
        bypass_proxies_for_loopback()
        _require_text(sys.argv[1:] if arguments is None else arguments)
        code = int(app(args=arguments, standalone_mode=False) or 0)
        error = INTERRUPTED[1] if code == INTERRUPTED[0] else ""  # typer has caught it
        sys.stdout.flush()
        if not code:
            _require_written()
    except typer.TyperException as refused:
        code, error = 2, refused.format_message()  # empty if there was no argument, where the help has been printed
    except (KeyboardInterrupt, typer.Abort):
        code, error = INTERRUPTED
    except Exception as unexpected:  # noqa: BLE001 - the last resort: whatever went wrong, a user gets a line, not a traceback
        code, error = _explained(unexpected)
    line = " ".join(error.split())
    if line and "--json" in (sys.argv if arguments is None else arguments):
        sys.stderr.write(dumps({"error": line, "exit_code": code}, ensure_ascii=False) + "\n")
    elif line:
        err.print(f"error: {line}", style="red", soft_wrap=True)
    return code


def _require_written() -> None:
    """Refuse to end well if standard output could not be written; see `ctcd.cli._Output`."""
    if lost := getattr(getattr(getattr(sys.stdout, "buffer", None), "raw", None), "lost", None):
        raise UsageError(f"cannot be written: {os.strerror(lost)}", where="standard output")


def _require_text(arguments: list[str]) -> None:
    """Refuse an argument that is not UTF-8: no library or database takes it."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError as error:
            raise UsageError("the argument is not UTF-8", where=ascii(argument), hint="rename the file") from error


def _explained(error: Exception) -> tuple[int, str]:
    """Return exit code and message of an error."""
    if isinstance(error, CtcdError):
        return error.exit_code, str(error)
    if _has_interrupt(error):
        return INTERRUPTED
    if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("ctcd"):
        return UsageError.exit_code, f"{shown(error)} (run: make install)"
    if isinstance(error, RuntimeError) and isinstance(error.__context__, OSError) and error.__context__.errno == ELOOP:
        error = error.__context__  # of links that lead to each other, by `Path.resolve` before Python 3.13
    if isinstance(error, OSError) and error.errno and not isinstance(error, (ConnectionError, TimeoutError)):
        # A path, a full disk, a missing permission: whoever calls the command can change it.
        file = f"{error.filename}: " if error.filename else ""
        return UsageError.exit_code, f"{file}{os.strerror(error.errno)}"
    if isinstance(error, shutil.Error) and isinstance(error.args[0], list):
        # As above, while a folder was copied: source, target and reason of each file.
        return UsageError.exit_code, error.args[0][0][-1]
    return CtcdError.exit_code, f"unexpected {shown(error)} (please report it)"


def _has_interrupt(error: BaseException | None) -> bool:
    """Return whether an error came of an interrupt, which modules in C turn into an ImportError while they load."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None
