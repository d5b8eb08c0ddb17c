"""Commands about the traffic of a challenger: start, change and stop it, and judge the challenger."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ctcd.cli.options import JsonOutput, Reason, epilog, group
from ctcd.cli.output import out, present, table
from ctcd.registry import NOT_GIVEN
from ctcd.settings import load_settings
from ctcd.stages import traffic as stages
from ctcd.times import moment

if TYPE_CHECKING:
    from ctcd.contract.traffic import Experiment
    from ctcd.traffic.judging import Estimate

traffic = group("Give a challenger some of the requests, and judge it on them.")


@traffic.command(epilog=epilog("ctcd traffic start 8 --kind canary"))
def start(
    version: Annotated[str, typer.Argument(help="Version in the registry that has passed the gate, such as 8.")],
    kind: Annotated[Literal["shadow", "canary", "route"], typer.Option("--kind", help="Kind of traffic.")] = "shadow",
    reason: Reason = NOT_GIVEN,
    json: JsonOutput = False,
) -> None:
    """Make a version the challenger, with a kind of traffic that contracts/traffic.toml defines.

    The answers of a shadow are logged but not returned. If the version is the challenger already, its traffic changes.
    """
    done = stages.start(load_settings(), version, kind=kind, reason=reason)
    present(done, _shown(done), json=json)


@traffic.command(epilog=epilog('ctcd traffic step --reason "quiet since Monday"'))
def step(
    to: Annotated[
        int | None, typer.Option("--to", min=1, max=1_000, help="Number of the step.", show_default="the next one")
    ] = None,
    reason: Reason = NOT_GIVEN,
    json: JsonOutput = False,
) -> None:
    """Move the canary to its next step, or to another one."""
    done = stages.step(load_settings(), to=to, reason=reason)
    present(done, _shown(done), json=json)


@traffic.command(epilog=epilog('ctcd traffic stop --reason "the campaign begins"'))
def stop(reason: Reason = NOT_GIVEN, json: JsonOutput = False) -> None:
    """End the experiment: the champion answers all requests again. The version may still be promoted."""
    done = stages.stop(load_settings(), reason=reason)
    what = f"{done.mode} of version {done.version}" if done else "an experiment that was changed by hand"
    present(done, f"ended: {what}", json=json)


@traffic.command(epilog=epilog("ctcd traffic status"))
def status(json: JsonOutput = False) -> None:
    """Judge the challenger by the requests since the step began, without changing anything."""
    present(stages.status(load_settings()), _show, json=json)


@traffic.command(epilog=epilog("ctcd traffic judge"))
def judge(json: JsonOutput = False) -> None:
    """Judge the challenger like `status`, and act on the result: withdraw it, start the next step, or promote it.

    It may be run at any time and any number of times: the intervals are valid at every look. A version is promoted only
    if it has passed the gate against the champion, and if contracts/traffic.toml says so.
    """
    present(stages.judge(load_settings()), _show, json=json)


def _shown(experiment: "Experiment") -> str:
    step = f", step {experiment.step}" if experiment.step else ""
    return (
        f"challenger: version {experiment.version}, {experiment.mode}{step}: {experiment.share:.0%} from "
        f"{moment(experiment.effective)} on"
    )


def _show(report: stages.TrafficReport) -> None:
    if report.experiment is None:
        out.print(report.why)
        return
    out.print(_shown(report.experiment))
    classes = sorted({name for each in report.variants for name in each.shares})
    table(
        "Requests since then",
        ("", *(f"{each.variant} {each.version}" for each in report.variants)),
        [
            ("requests", *(each.requests for each in report.variants)),
            ("effective requests", *(round(each.effective) for each in report.variants)),
            ("failed", *(each.failed for each in report.variants)),
            ("median, ms", *(each.median_ms for each in report.variants)),
            ("95th percentile, ms", *(each.p95_ms for each in report.variants)),
            *((f"share of {name}", *(each.shares.get(name) for each in report.variants)) for name in classes),
            ("agreement", *(each.agreement for each in report.variants)),
            ("labelled", *(each.labelled for each in report.variants)),
            ("accuracy", *(each.accuracy for each in report.variants)),
        ],
    )
    table(
        "Measures, with intervals that are valid at every look",
        ("measure", "challenger", "champion", "worse by", "limit", "state"),
        [
            (
                each.name,
                _interval(each.challenger),
                _interval(each.champion),
                _ends(each.loss_low, each.loss_high),
                each.limit,
                each.state if each.blocks or each.state != "open" else f"{each.state} (does not block)",
            )
            for each in report.measures
        ],
    )
    for finding in report.findings:
        out.print(f"finding {finding.id}: {finding.subject}")
    done = f"; {report.done}" if report.done else ""
    out.print(f"verdict: {report.verdict}, because {report.why}{done}")


def _interval(estimate: "Estimate | None") -> str:
    if estimate is None or estimate.value is None:
        return ""
    return f"{estimate.value:.4g} ({_ends(estimate.low, estimate.high)})"


def _ends(low: float, high: float | None) -> str:
    return f"{low:.4g} to {'?' if high is None else f'{high:.4g}'}"
