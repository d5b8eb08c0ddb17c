"""The report site and the pages about a snapshot and a decision, opened as files in a real browser."""

from datetime import datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Browser
from support.browser import INSTANCE, objections, opened, picture

from ctcd.contract.payload import request_rows
from ctcd.derived import synthetic
from ctcd.registry.versions import CHAMPION
from ctcd.settings import Settings
from ctcd.stages import data, pipeline, scoring
from ctcd.stages.connections import open_registry, open_store
from ctcd.stages.site import write_site
from ctcd.store.prediction_log import LoggedPrediction, append

pytestmark = pytest.mark.browser
LOGGED = (1, 8, 15)
"""Days ago on which answers were logged: those of yesterday have no labels yet, the others have some."""
ROWS = 1_000
"""Answers on each of these days."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site after a model was trained and judged, and answered requests that have drifted, some of which have labels."""
    home = tmp_path_factory.mktemp("home")
    settings = Settings(home=home, contracts=INSTANCE.folder)
    synthetic.write(INSTANCE.contract, home / "raw", rows=5_000, seed=7, end=settings.today(), error_rate=0.01)
    pipeline.run(settings, home / "raw", profile="smoke")
    data.monitor_data(settings, None)
    log_answers(settings)
    for period in ("daily", "weekly"):
        scoring.drift(settings, settings.today(), period=period)
        scoring.performance(settings, settings.today(), period=period)
    return Path(write_site(settings, None, load=home).folder)


def log_answers(settings: Settings) -> None:
    """Log answers of the champion to the rows whose labels are the newest, but to one of them in place of every second."""
    contract, registry = INSTANCE.contract, open_registry(settings)
    champion = registry.find(CHAMPION)
    assert champion
    frame = data.valid_snapshot(settings, None).frame
    frame = frame.sort_values(contract.event_date.name, ascending=False).head(ROWS)
    rows = request_rows(frame, contract)
    rows[::2] = rows[:1] * len(rows[::2])
    answers = registry.scorer(champion, settings.scorers).predict(rows)
    for back in LOGGED:
        noon = datetime.combine(settings.today() - timedelta(days=back), time(12), ZoneInfo(settings.timezone))
        append(
            open_store(settings),
            contract,
            [
                LoggedPrediction(
                    request_id=f"{back}-{number}",
                    group=group,
                    features=row,
                    prediction=answers.classes[number],
                    confidence=answers.confidences[number],
                    probabilities=dict(zip(answers.class_order, answers.probabilities[number], strict=True)),
                    model_version=champion.version,
                    run_id=champion.run_id,
                    elapsed_ms=1.0,
                    created_at=noon,
                )
                for number, (row, group) in enumerate(zip(rows, frame[contract.group.name].tolist(), strict=True))
            ],
        )


@pytest.mark.parametrize("width", [320, 1200])
@pytest.mark.parametrize("dark", [False, True])
def test_everyone_can_read_the_site(chromium: Browser, site: Path, width: int, dark: bool) -> None:
    """Each page, reached by links from the overview: axe-core objects to nothing, and only tables are wider than the window."""
    with opened(chromium, width=width, dark=dark) as page:
        left, seen, found = [(site / "index.html").as_uri()], set[str](), list[str]()
        while left:
            address = left.pop()
            page.goto(address)
            name = Path(address).relative_to(site.as_uri())
            found += [f"{name}: {each}" for each in objections(page)]
            if page.evaluate("document.documentElement.scrollWidth") > width:
                found.append(f"{name}: wider than {width}")
            seen.add(address)
            links = page.locator("a[href]").evaluate_all("links => links.map(link => link.href)")
            left += [link for link in dict.fromkeys(links) if link.startswith("file:") and link not in {*seen, *left}]
    assert found == []
    assert seen == {path.as_uri() for path in site.rglob("*.html")}
    assert any("/decisions/1/" in address for address in seen)


def test_the_pages_are_filled(chromium: Browser, site: Path) -> None:
    """So that the test above judges tables and plots: performance with slices, drift, and findings with their evidence."""
    with opened(chromium, width=1100, height=1150) as page:
        for name, tables, plots in (("performance", 2, 2), ("drift", 1, 1), ("findings", 1, 0)):
            page.goto((site / f"{name}.html").as_uri())
            assert (page.locator("table").count(), page.locator("figure svg").count()) == (tables, plots), name
        page.goto((site / "decisions" / "1" / "1.html").as_uri())
        assert page.locator("figure svg").count() > 2
        picture(page, "evidence-page.png")
