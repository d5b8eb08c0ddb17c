"""The report site and the pages about a snapshot and a decision, opened as files in a real browser."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser
from support.browser import INSTANCE, objections, opened

from ctcd.derived import synthetic
from ctcd.settings import Settings
from ctcd.stages import data, pipeline
from ctcd.stages.site import write_site

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site after a model was trained and judged, with drift and performance of no prediction yet."""
    home = tmp_path_factory.mktemp("home")
    settings = Settings(home=home, contracts=INSTANCE.folder)
    synthetic.write(INSTANCE.contract, home / "raw", rows=5_000, seed=7, end=settings.today(), error_rate=0.01)
    pipeline.run(settings, home / "raw", profile="smoke")
    data.monitor_data(settings, None)
    return Path(write_site(settings, None, load=home).folder)


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
