"""Pages in a real browser, and what a person does with the form on one."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page

from ctcd.contract.instance import load_instance
from ctcd.contract.spec import Column, Kind

INSTANCE = load_instance(Path(__file__).parents[2] / os.environ.get("INSTANCE", "tests/instance"))
"""The instance whose pages are tested: that of the engine's tests, or the one in the folder that INSTANCE names."""
PICTURES = os.environ.get("SCREENSHOTS", "")
"""Folder that the pictures of the documentation are written to, if there is one."""
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
"""The names of what `scripts/ensure-chromium.sh` accepts."""


@contextmanager
def opened(browser: Browser, *, width: int = 1200, height: int = 900, dark: bool = False) -> Iterator[Page]:
    """Yield an empty page; nothing that it shows may violate its content security policy, or have a script that fails."""
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light", locale="en-US"
    )
    page = context.new_page()
    found: list[str] = []
    page.on("pageerror", lambda error: found.append(str(error)))
    # The browser reports both, and answers with another status than 200, which are no faults of a page.
    page.on("console", lambda said: found.append(said.text) if said.type in ("error", "warning") else None)
    yield page
    context.close()
    if wrong := [each for each in found if not each.startswith("Failed to load resource")]:
        pytest.fail("; ".join(wrong))


def picture(page: Page, name: str) -> None:
    """Write what the window shows of the top of a page to the folder of pictures, if there is one."""
    if PICTURES:
        page.evaluate("scrollTo(0, 0)")
        page.screenshot(path=Path(PICTURES) / name)


def objections(page: Page) -> list[str]:
    """Return what axe-core objects to, however little: rule, weight and elements."""
    found = Axe().run(page).response["violations"]
    return [f"{each['id']} ({each['impact']}): {[node['target'] for node in each['nodes']]}" for each in found]


def field_of(page: Page, name: str) -> Locator:
    """Return the field of a column."""
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    return page.locator(f'[data-name="{quoted}"]')


def fill(page: Page, row: Mapping[str, Any], columns: Iterable[Column]) -> None:
    """Enter a row; a missing value is None."""
    for column in columns:
        field, value = field_of(page, column.name), row[column.name]
        if column.list_of is not None:
            entries = [] if value is None else column.list_of.normalise(value).split(column.list_of.separator)
            for box in field.locator("input[value]").all():
                box.set_checked(box.get_attribute("value") in entries)
            if column.nullable:
                field.locator("[data-missing]").set_checked(value is None)
        elif field.locator("select").count():
            field.locator("select").select_option(json.dumps(value))
        else:
            # As a date picker does it: what may be typed into one depends on the language.
            field.locator("input").evaluate(
                "(input, value) => { input.value = value }", "" if value is None else str(value)
            )


def meaning(row: Mapping[str, Any], columns: Iterable[Column]) -> dict[str, Any]:
    """Return the values of a row in a form in which equal ones are equal, however they are spelt."""
    return {column.name: _meaning(row[column.name], column) for column in columns}


def _meaning(value: Any, column: Column) -> Any:
    if value is None:
        return None
    if column.list_of is not None:
        return frozenset(column.list_of.normalise(value).split(column.list_of.separator))
    return datetime.fromisoformat(value) if column.kind is Kind.TIME else value


def predict(page: Page) -> dict[str, Any]:
    """Send the form; return the row that was sent, and the answer."""
    with page.expect_response("**/predict") as responded:
        page.get_by_role("button", name="Predict").click()
    response = responded.value
    return {"row": json.loads(response.request.post_data or "")["data"], "answer": response.json()}
