"""The form of any contract: every kind of column, and names and texts of every kind, in a real browser."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route
from sklearn.datasets import load_wine
from support.browser import fill, meaning, opened, picture, predict
from support.command import ROOT
from support.small_contracts import ALL, Small, write_instance

from ctcd.cli.app import run
from ctcd.contract.instance import Instance, load_instance
from ctcd.serving.http import page as pages

pytestmark = pytest.mark.browser
ANSWER = {"predict": "a", "confidence": 1.0, "probabilities": {"a": 1.0}, "model_version": "1", "request_id": "x"}
URL = "http://form.test/"


def show(page: Page, instance: Instance) -> None:
    """Show the form of a contract; its requests are answered here, as there is a model for none of these contracts."""
    form = pages.form(instance.contract, keyed=False)

    def answer(route: Route) -> None:
        if route.request.method == "POST":
            route.fulfill(json=ANSWER)
        else:
            route.fulfill(body=form.html, headers=form.headers, content_type="text/html")

    page.route(f"{URL}**", answer)
    page.goto(URL)


@pytest.mark.parametrize("small", ALL, ids=lambda small: small.name)
def test_the_form_of_a_contract_sends_what_it_shows(chromium: Browser, tmp_path: Path, small: Small) -> None:
    """The example, as it is; a row with everything missing that may be; and both are valid requests."""
    instance = write_instance(small, tmp_path / small.name)
    columns = instance.contract.request_columns
    example: dict[str, Any] = {column.name: column.example for column in columns}
    bare = example | {column.name: None for column in columns if column.nullable}
    with opened(chromium) as page:
        show(page, instance)
        for row in (example, bare):
            fill(
                page,
                {each.name: row[each.name] for each in columns if each.nullable},
                [each for each in columns if each.nullable],
            )
            sent = predict(page)["row"]
            instance.payload.request.model_validate({"data": sent})
            assert meaning(sent, columns) == meaning(row, columns)


@pytest.mark.parametrize(
    ("typed", "sent"),
    [
        ("9007199254740993", "9007199254740993"),
        ("-9223372036854775807", "-9223372036854775807"),
        ("007", "7"),
        ("1e2", "100"),
    ],
)
def test_a_large_whole_number_is_sent_as_it_was_typed(chromium: Browser, tmp_path: Path, typed: str, sent: str) -> None:
    """JavaScript has no such number above 2^53; one that is no JSON as it is typed is sent as what it means."""
    small = Small(
        name="large",
        columns={
            "number": ("int", f"minimum={-(2**63)}, maximum={2**63 - 1}, example=1"),
            "label": ("str", 'role=Role.LABEL, categories=("a", "b"), example="a"'),
        },
        classes=("a", "b"),
    )
    instance = write_instance(small, tmp_path / small.name)
    with opened(chromium) as page:
        show(page, instance)
        page.locator("[data-name=number] input").fill(typed)
        with page.expect_request(lambda request: request.method == "POST") as asked:
            page.get_by_role("button", name="Predict").click()
        assert asked.value.post_data == f'{{"data": {{"number": {sent}}}}}'


def test_the_form_of_a_drafted_instance_can_be_sent_as_it_is(chromium: Browser, tmp_path: Path) -> None:
    """A table, that of docs/make-it-yours.md, is enough for a form whose example is a valid request."""
    wine = load_wine(as_frame=True)
    wine.frame.assign(target=wine.target_names[wine.target]).to_csv(tmp_path / "wine.csv", index=False)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)  # which says how the migration is laid out
    assert run(["init", str(tmp_path / "wine.csv"), "--label", "target", "--into", str(tmp_path / "contracts")]) == 0
    instance = load_instance(tmp_path / "contracts")
    with opened(chromium) as page:
        show(page, instance)
        picture(page, "drafted-page.png")
        sent = predict(page)["row"]
    assert sent == {column.name: column.example for column in instance.contract.request_columns}
    instance.payload.request.model_validate({"data": sent})


def test_a_violation_of_the_policy_is_noticed(chromium: Browser) -> None:
    """A script that the policy does not name does not run, and a test that opens the page fails."""

    def serve(route: Route) -> None:
        headers = {"Content-Security-Policy": "default-src 'none'"}
        route.fulfill(body="<!doctype html><script>window.ran = 1</script>", headers=headers, content_type="text/html")

    def visit() -> None:
        with opened(chromium) as page:
            page.route(f"{URL}**", serve)
            page.goto(URL)
            assert page.evaluate("window.ran") is None

    with pytest.raises(pytest.fail.Exception, match="Content Security Policy"):
        visit()
