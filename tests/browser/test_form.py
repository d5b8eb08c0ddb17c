"""The form on the front page, in a real browser that asks a real service."""

from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect
from support.browser import INSTANCE, field_of, fill, meaning, objections, opened, picture, predict
from support.frames import snapshot_frame
from support.load import Guarded
from support.serving import model_info

from ctcd.contract.payload import request_rows
from ctcd.contract.spec import Kind

pytestmark = pytest.mark.browser

CONTRACT, PAYLOAD = INSTANCE.contract, INSTANCE.payload
COLUMNS = CONTRACT.request_columns
ROW = request_rows(snapshot_frame(CONTRACT, rows=5, seed=9), CONTRACT)[3]
"""Another row than the example that the form begins with."""
LIMITED = next(each for each in COLUMNS if each.kind in (Kind.INTEGER, Kind.NUMBER) and each.maximum is not None)
TOO_MUCH = str(round(LIMITED.maximum or 0) + 1)


def visit(page: Page, service: Guarded, *, key: bool = True) -> None:
    page.goto(service.service.url)
    if key:
        page.get_by_label("API key").fill(service.key)


def test_a_row_is_sent_and_the_answer_is_shown(chromium: Browser, service: Guarded) -> None:
    """What was entered is sent; class, probability of every class, version and request id are those of the answer."""
    with opened(chromium) as page:
        visit(page, service)
        fill(page, ROW, COLUMNS)
        asked = predict(page)
        assert meaning(asked["row"], COLUMNS) == meaning(ROW, COLUMNS)
        answer: Any = PAYLOAD.prediction.model_validate(asked["answer"], strict=True)
        expect(page.get_by_role("status")).to_have_text(
            f"{answer.predict}, with a probability of {100 * answer.confidence:.1f} %"
        )
        bars = page.locator(".bars li")
        assert bars.locator("span:first-child").all_inner_texts() == list(CONTRACT.classes)
        shares = [answer.probabilities[name] for name in CONTRACT.classes]
        assert bars.locator(".share").all_inner_texts() == [f"{100 * share:.1f} %" for share in shares]
        for bar, share in zip(bars.locator(".track").all(), shares, strict=True):
            whole, part = bar.bounding_box(), bar.locator("div").bounding_box()
            assert whole
            assert part
            assert part["width"] / whole["width"] == pytest.approx(share, abs=0.01)
        assert page.locator(".predicted span:first-child").all_inner_texts() == [answer.predict]
        assert page.locator("dd").all_inner_texts() == [model_info(CONTRACT).version, answer.request_id]
        picture(page, "front-page.png")


def test_the_version_shown_is_that_of_the_answer(chromium: Browser, service: Guarded) -> None:
    """Also after the service has gone on to another version, which a service of one model cannot: the number is replaced."""
    versions = ("12", "13")
    left = iter(versions)

    def answered(route: Route) -> None:
        response = route.fetch()
        route.fulfill(response=response, json={**response.json(), "model_version": next(left)})

    with opened(chromium) as page:
        page.route("**/predict", answered)
        visit(page, service)
        for version in versions:
            predict(page)
            expect(page.locator("dd").first).to_have_text(version)


def test_problems_are_shown_beside_their_fields(chromium: Browser, service: Guarded) -> None:
    """The rule and the value are told, to a screen reader too; the field has the focus; all is gone once it is valid."""
    with opened(chromium) as page:
        visit(page, service)
        field = field_of(page, LIMITED.name)
        entry = field.locator("input")
        entry.fill(TOO_MUCH)
        predict(page)
        expect(field.locator(".problem")).to_contain_text(
            f"less than or equal to {LIMITED.maximum}: {TOO_MUCH} was given"
        )
        expect(entry).to_be_focused()
        expect(entry).to_have_attribute("aria-invalid", "true")
        expect(entry).to_have_accessible_description(
            f"{field.locator('.hint').inner_text()} {field.locator('.problem').inner_text()}"
        )
        expect(page.get_by_role("status")).to_have_text("No prediction: 1 field is not valid.")
        assert page.locator(".field .problem:visible").count() == 1
        entry.fill("")
        page.get_by_role("button", name="Predict").click()
        expect(field.locator(".problem")).to_have_text("is not a number")
        page.get_by_role("button", name="Back to the example").click()
        assert page.locator(".field .problem:visible").count() == 0
        asked = predict(page)
        assert meaning(asked["row"], COLUMNS) == meaning({each.name: each.example for each in COLUMNS}, COLUMNS)
        assert asked["answer"]["predict"] in CONTRACT.classes


def test_other_refusals_are_told(chromium: Browser, service: Guarded) -> None:
    """A key that is missing, which gets the focus, and a service that does not answer."""
    with opened(chromium) as page:
        visit(page, service, key=False)
        predict(page)
        expect(page.get_by_role("status")).to_contain_text("give a valid key")
        expect(page.get_by_label("API key")).to_be_focused()
        page.route("**/predict", lambda route: route.abort())
        page.get_by_role("button", name="Predict").click()
        expect(page.get_by_role("status")).to_contain_text("The service could not be asked")


def test_the_keyboard_is_enough(chromium: Browser, service: Guarded) -> None:
    """Tab reaches every control in its order, the focus is seen on each, and Enter sends the form."""
    with opened(chromium) as page:
        visit(page, service, key=False)
        controls = "a[href], input, select, button"
        reached = []
        for _ in range(page.locator(controls).count()):
            page.keyboard.press("Tab")
            reached.append(
                page.evaluate(f"[...document.querySelectorAll('{controls}')].indexOf(document.activeElement)")
            )
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
        assert reached == list(range(len(reached)))
        page.get_by_label("API key").focus()
        page.keyboard.type(service.key)
        with page.expect_response("**/predict") as responded:
            page.keyboard.press("Enter")
        assert responded.value.status == 200
        expect(page.get_by_role("status")).to_contain_text("with a probability of")


@pytest.mark.parametrize("width", [320, 1200])
@pytest.mark.parametrize("dark", [False, True])
def test_everyone_can_read_it(chromium: Browser, service: Guarded, width: int, dark: bool) -> None:
    """Narrow or wide, light or dark, with an answer or a problem: axe-core objects to nothing, nothing is cut off."""

    def readable(page: Page) -> None:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert objections(page) == []

    with opened(chromium, width=width, dark=dark) as page:
        visit(page, service)
        readable(page)
        predict(page)
        expect(page.get_by_role("status")).to_contain_text("with a probability of")
        readable(page)
        field_of(page, LIMITED.name).locator("input").fill(TOO_MUCH)
        predict(page)
        expect(page.locator("[aria-invalid]")).to_have_count(1)
        readable(page)
        shade = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
        assert (max(shade) < 64) == dark


def test_the_api_page_shows_the_document(chromium: Browser, service: Guarded) -> None:
    """The link leads to it; routes stand under their tags, with the example of the contract and the classes."""
    with opened(chromium, height=1000) as page:
        visit(page, service, key=False)
        page.get_by_role("link", name="API page").click()
        for tag in ("Predictions", "Model", "Operation"):
            expect(page.locator(f"#operations-tag-{tag}")).to_be_visible()
        picture(page, "api-page.png")
        page.locator("#operations-Predictions-predict").get_by_role("button").first.click()
        expect(page.locator("#operations-Predictions-predict .body-param__example")).to_contain_text(COLUMNS[0].name)
        expect(page.locator("#operations-Predictions-predict .responses-table").first).to_contain_text(
            CONTRACT.classes[0]
        )
