"""The processes of a service share their metrics."""

import os
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.mmap_dict import MmapedDict, mmap_key

from ctcd.serving.metrics import Metrics

ROOT = Path(__file__).parents[3]
RULES = ROOT / "docker" / "prometheus" / "rules.yml"
FOLLOWS = """
import pathlib, sys
from ctcd.serving.metrics import Metrics

metrics = Metrics(pathlib.Path(sys.argv[1]))
if sys.argv[2] == "follows":
    metrics.followed(sys.argv[3] == "well")
    print(metrics.page("wine").decode(), flush=True)
else:
    print("counts, and follows nothing", flush=True)
    sys.stdin.read()
"""


def page(folder: Path, outcome: str) -> str:
    """Return the page of a worker that follows the registry, while a process runs that does not, like the shipping process."""
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)}
    command = [sys.executable, "-c", FOLLOWS, str(folder)]
    with subprocess.Popen(  # noqa: S603 - our own program
        [*command, "ships"], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        return subprocess.run(  # noqa: S603 - our own program
            [*command, "follows", outcome], env=environment, capture_output=True, text=True, check=True
        ).stdout


@pytest.mark.slow
def test_only_a_process_that_follows_the_registry_reports_whether_it_is_followed(tmp_path: Path) -> None:
    """The shipping process has metrics too, but only the worker knows whether the registry answers."""
    assert 'ctcd_registry_followed{model="wine"} 1.0' in page(tmp_path, "well")
    assert 'ctcd_registry_followed{model="wine"} 0.0' in page(tmp_path, "ill")


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00", b"\x40\x00\x00\x00" + b"\x07\x00\x00\x00" * 30],
    ids=["empty", "cut off", "no JSON"],
)
def test_a_damaged_file_hides_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes) -> None:
    """A file that a killed process left torn, or that one has just made, is left out with a line in the log."""
    torn = tmp_path / "counter_4711.db"
    torn.write_bytes(content)
    with closing(MmapedDict(str(tmp_path / "counter_1.db"))) as values:  # type: ignore[no-untyped-call] # prometheus_client types it only in part
        key = mmap_key("ctcd_requests", "ctcd_requests_total", ["route"], ["/livez"], "Answered")
        values.write_value(key, 3.0, 0.0)  # type: ignore[no-untyped-call] # as above
    assert b'ctcd_requests_total{model="wine",route="/livez"} 3.0' in Metrics(tmp_path).page("wine")
    assert [str(torn) in line.getMessage() for line in caplog.records] == [True]


def samples(metrics: Metrics) -> dict[str, float]:
    """Return the value of each sample, by its name and labels."""
    lines = [line.rpartition(" ") for line in metrics.page("m").decode().splitlines() if not line.startswith("#")]
    return {name.replace('{model="m"}', "").replace('model="m",', ""): float(value) for name, _, value in lines}


@pytest.mark.parametrize(
    ("event", "given", "moved"),
    [
        ("connections", (3,), {"ctcd_connections": 3}),
        ("depth", (5,), {"ctcd_outbox_records": 5}),
        ("waiting", (2.5,), {"ctcd_outbox_age_seconds": 2.5}),
        ("dead_lettered", (4,), {"ctcd_outbox_dead_letters": 4}),
        ("moved_aside", (2,), {"ctcd_outbox_files_moved_aside": 2}),
        ("shipped", (3,), {"ctcd_outbox_shipped_total": 3}),
        ("ship_failed", (), {"ctcd_outbox_failures_total": 1}),
        ("requests_waiting", (3, 1.5), {"ctcd_requests_waiting": 3, "ctcd_requests_age_seconds": 1.5}),
        ("restarted", ("shipper",), {'ctcd_restarts_total{part="shipper"}': 1}),
        ("swapped", (), {'ctcd_model_swaps_total{outcome="swapped"}': 1}),
        ("swap_refused", (), {'ctcd_model_swaps_total{outcome="refused"}': 1}),
        ("challenger_swapped", (), {'ctcd_challenger_swaps_total{outcome="swapped"}': 1}),
        ("challenger_refused", (), {'ctcd_challenger_swaps_total{outcome="refused"}': 1}),
        ("challenger_late", (), {"ctcd_challenger_late_changes_total": 1}),
        ("shadowed", ("failed", 2), {'ctcd_shadow_rows_total{outcome="failed"}': 2}),
        ("cached", (2, 3), {'ctcd_cache_rows_total{outcome="hit"}': 2, 'ctcd_cache_rows_total{outcome="miss"}': 3}),
        ("cache_failed", (), {"ctcd_cache_failures_total": 1}),
        ("followed", (True,), {"ctcd_registry_followed": 1}),
    ],
)
def test_an_event_moves_its_own_metric_and_no_other(
    event: str, given: tuple[object, ...], moved: dict[str, float]
) -> None:
    """By as much as it says: an alert watches a number that somebody has to change."""
    metrics = Metrics()
    before = samples(metrics)
    getattr(metrics, event)(*given)
    after = samples(metrics)
    assert {name: value for name, value in after.items() if value != before.get(name)} == moved


def test_gauges_of_a_process_that_is_gone_count_no_longer(tmp_path: Path) -> None:
    """What a killed worker held is in no sum; what it had counted stays."""
    ended = subprocess.Popen(["true"])  # noqa: S607 - whichever the system has
    ended.wait()
    for pid in (ended.pid, os.getpid()):
        for kind, name in (("gauge_livesum", "ctcd_outbox_records"), ("counter", "ctcd_outbox_shipped_total")):
            with closing(MmapedDict(str(tmp_path / f"{kind}_{pid}.db"))) as values:  # type: ignore[no-untyped-call] # as above
                key = mmap_key(name.removesuffix("_total"), name, [], [], "Predictions")
                values.write_value(key, 3.0, 0.0)  # type: ignore[no-untyped-call] # as above
    shown = samples(Metrics(tmp_path))
    assert (shown["ctcd_outbox_records"], shown["ctcd_outbox_shipped_total"]) == (3.0, 6.0)


def test_every_sample_has_the_model_as_a_label() -> None:
    """One Prometheus that reads two services can tell their models apart, whatever the metric."""
    counted = Metrics()
    counted.request("/predict", 200, 0.01)
    counted.predicted("good", "7", "champion")
    samples = [line for line in counted.page("wine").decode().splitlines() if not line.startswith("#")]
    assert len(samples) > 20
    assert [line for line in samples if 'model="wine"' not in line] == []


@pytest.mark.parametrize("document", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: str(path.name))
def test_samples_in_documents_have_the_labels_of_their_metric(document: Path) -> None:
    """What a page shows of `/metrics` is what the service shows: one without a label comes from an older one."""
    metrics = [each for each in vars(Metrics()).values() if isinstance(each, MetricWrapperBase)]
    expected = {each._name: {*each._labelnames, "model"} for each in metrics}
    for name, labels in re.findall(
        r"^ {4}(ctcd_\w+)\{(.*)\} [\d.]+$", document.read_text(encoding="utf-8"), re.MULTILINE
    ):
        metric = re.sub("_(total|sum|count|bucket)$", "", name)
        assert set(re.findall(r'(\w+)="', labels)) - {"le"} == expected[metric], f"{name} in {document.name}"
