"""The `ctcd` command: its verbs, and what an error looks like."""

import sys
import traceback

import typer

from ctcd.cli import contract, data, demo, deployment, model, monitor, release, scoring, service, training
from ctcd.cli.output import err
from ctcd.errors import CtcdError

EXIT_CODES = """
Exit codes: 0 done · 1 unexpected error · 2 wrong option, file or setting · 3 data refused by the contract ·
4 refused by the gate · 5 something needed is not there yet · 6 a store or service does not answer · 7 a deployment is broken · 130 interrupted
"""

app = typer.Typer(
    help="Train, gate, promote and serve a model whose contracts decide what ships.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for verb in (
    demo.demo,
    data.generate,
    data.migrate,
    data.ingest,
    data.snapshot,
    data.validate,
    monitor.monitor,
    model.train,
    model.gate,
    model.promote,
    model.rollback,
    service.build,
    service.serve,
    service.predict,
    scoring.score,
    scoring.performance,
    data.config,
):
    app.command(epilog=EXIT_CODES)(verb)
app.command("deploy", epilog=EXIT_CODES)(deployment.deploy_and_probe)
app.add_typer(contract.app, name="contract")
app.add_typer(deployment.app, name="deployment")
app.add_typer(release.app, name="release")
app.add_typer(training.app, name="training")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and end the process with its exit code."""
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code; an error is one line on standard error."""
    try:
        return int(app(args=arguments, standalone_mode=False) or 0)
    except CtcdError as error:
        _say(str(error))
        return error.exit_code
    except typer.TyperException as error:
        if error.format_message():  # without any argument the help was shown, and that was all
            _say(error.format_message())
        return 2
    except (KeyboardInterrupt, typer.Abort):
        _say("interrupted; the verb can be run again")
        return 130
    except Exception as error:  # noqa: BLE001 - the last resort: whatever went wrong, a user gets a line, not a traceback
        where = traceback.extract_tb(error.__traceback__)[-1]
        _say(f"unexpected {type(error).__name__}: {error} ({where.filename}:{where.lineno}; please report it)")
        return 1


def _say(message: str) -> None:
    line = " ".join(message.split())
    err.print(f"error: {line}", style="red", markup=False, highlight=False, soft_wrap=True)
