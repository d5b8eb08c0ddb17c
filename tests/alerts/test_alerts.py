"""The alerts, judged by Prometheus' own tool: each fires when it should and only then; where they go, by Alertmanager's."""

import copy
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.alerts import CASES, ROOT, rules, unit_tests
from support.metrics import as_read, metrics_page, queries

Tool = Callable[..., "subprocess.CompletedProcess[str]"]
ALERTMANAGER = ROOT / "docker" / "alertmanager"
NEVER, ALWAYS = "vector(1) > 2", "vector(1) > 0"


def judged(tool: Tool, folder: Path, document: dict[str, Any]) -> "subprocess.CompletedProcess[str]":
    """Run the unit tests of the alerts on rules."""
    (folder / "rules.yml").write_text(yaml.safe_dump(document))
    (folder / "tests.yml").write_text(yaml.safe_dump(unit_tests("rules.yml")))
    return tool("promtool", "test", "rules", "tests.yml")


def test_every_alert_fires_when_it_should_and_only_then(tool: Tool, tmp_path: Path) -> None:
    """For one model of two, after as long as it says, and with its summary; not for what only looks like it."""
    done = judged(tool, tmp_path, rules())
    assert done.returncode == 0, done.stderr
    checked = tool("promtool", "check", "rules", "rules.yml")
    assert (checked.returncode, f"{len(CASES)} rules found" in checked.stdout) == (0, True)


@pytest.mark.parametrize("expression", [NEVER, ALWAYS], ids=["never", "always"])
@pytest.mark.parametrize("name", CASES)
def test_an_alert_that_never_or_always_fires_is_noticed(tool: Tool, tmp_path: Path, name: str, expression: str) -> None:
    """Whichever it is, its test fails and names it."""
    document = copy.deepcopy(rules())
    [rule] = [rule for group in document["groups"] for rule in group["rules"] if rule["alert"] == name]
    rule["expr"] = expression
    done = judged(tool, tmp_path, document)
    assert done.returncode != 0
    assert f"alertname: {name}," in done.stderr


def test_every_query_of_a_dashboard_is_one(tool: Tool, tmp_path: Path) -> None:
    """Prometheus can parse each of them; a query with a bracket too few is refused."""
    recorded = [{"record": f"query:{number}", "expr": as_read(each)} for number, (_, each) in enumerate(queries())]
    for more, code in (([], 0), ([{"record": "query:broken", "expr": "sum(rate(ctcd_requests_total[5m])"}], 1)):
        document = {"groups": [{"name": "dashboards", "rules": [*recorded, *more]}]}
        (tmp_path / "queries.yml").write_text(yaml.safe_dump(document))
        done = tool("promtool", "check", "rules", "queries.yml")
        assert done.returncode == code, done.stderr


def test_metrics_follow_the_conventions(tool: Tool) -> None:
    """Names, units and help texts are as Prometheus advises; a counter without its suffix is not."""
    page = metrics_page()
    done = tool("promtool", "check", "metrics", given=page)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    done = tool("promtool", "check", "metrics", given=page.replace("ctcd_requests_total", "ctcd_requests"))
    assert "counter metrics should have" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("url", "receiver"),
    [("", "nobody"), ("https://chat.example/hook?a=1&b=|2", "webhook")],
    ids=["none", "a webhook"],
)
def test_alerts_go_to_the_webhook_if_there_is_one(tool: Tool, tmp_path: Path, url: str, receiver: str) -> None:
    """Pages and tickets alike; the address is taken as it is, and Alertmanager accepts the configuration."""
    (tmp_path / "alertmanager").write_text('#!/bin/sh\necho "$@" >called\n')
    (tmp_path / "alertmanager").chmod(0o755)
    text = (ALERTMANAGER / "start.sh").read_text().replace("/tmp/", f"{tmp_path}/")  # noqa: S108 - as in the container
    (tmp_path / "start.sh").write_text(text)
    (tmp_path / "alertmanager.yml").write_bytes((ALERTMANAGER / "alertmanager.yml").read_bytes())
    (tmp_path / "etc").mkdir()
    for name in ("start.sh", "alertmanager.yml"):
        (tmp_path / name).rename(tmp_path / "etc" / name)
    subprocess.run(
        ["/bin/sh", "etc/start.sh"],
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "ALERT_WEBHOOK": url},
        check=True,
    )
    made = tmp_path / "alertmanager.yml"
    assert f"--config.file={made}" in (tmp_path / "called").read_text()
    assert made.stat().st_mode & 0o077 == 0
    checked = tool("amtool", "check-config", "alertmanager.yml")
    assert checked.returncode == 0, checked.stderr
    for severity in ("page", "ticket"):
        routed = tool("amtool", "config", "routes", "test", "--config.file=alertmanager.yml", f"severity={severity}")
        assert routed.stdout.split() == [receiver]
    [webhook] = yaml.safe_load(made.read_text())["receivers"][1]["webhook_configs"]
    assert webhook["url"] == (url or "http://127.0.0.1:9")
