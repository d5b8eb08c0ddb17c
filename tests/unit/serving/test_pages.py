"""The pages of the service: the form has every column, no text of a contract is HTML, and no other script can run."""

import json
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import pandera.pandas as pa
import pytest
from pandera.typing import Series
from pydantic import SecretStr
from starlette.testclient import TestClient
from support.instance import CONTRACT
from support.serving import empty_store, pinned, served
from support.small_contracts import ALL, write_instance

from ctcd.contract import Contract, ListOf, Role, column
from ctcd.contract.spec import Kind
from ctcd.serving.http import page
from ctcd.serving.http.routes import BY_PATH

ATTACK = """"'><script>attack()</script><img src=x onerror=attack()>{{ 7 * 7 }}{% x %}</style></fieldset>&lt;"""
Attributes = dict[str, str | None]


class Tags(HTMLParser):
    """The tags of a page with their attributes, and the texts between them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, Attributes]] = []
        self.inside: dict[str, list[str]] = {}
        self.text = self.current = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self.current = tag

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002 - the signature is HTMLParser's
        self.current = ""

    def handle_data(self, data: str) -> None:
        self.text += data
        self.inside.setdefault(self.current, []).append(data)

    def all(self, *tags: str) -> list[Attributes]:
        return [attributes for tag, attributes in self.found if tag in tags]

    def fields(self) -> dict[str | None, list[tuple[str, Attributes]]]:
        """Return the tags of each field by the name of its column."""
        fields: dict[str | None, list[tuple[str, Attributes]]] = {}
        current: list[tuple[str, Attributes]] = []
        for tag, attributes in self.found:
            if "data-name" in attributes:
                current = fields.setdefault(attributes["data-name"], [])
            elif tag == "button":
                current = []
            current.append((tag, attributes))
        return fields


def contracts(folder: Path) -> list[Contract]:
    return [CONTRACT, *(write_instance(small, folder / small.name).contract for small in ALL)]


@pytest.mark.slow
def test_every_column_of_a_request_has_a_labelled_field(tmp_path: Path) -> None:
    """In the order of the contract; every input has a label, and is described by a hint and the place for a problem."""
    for contract in contracts(tmp_path):
        tags = Tags(page.form(contract, keyed=True).html)
        fields = tags.fields()
        assert list(fields) == [each.name for each in contract.request_columns]
        labelled = {each.get("for") for each in tags.all("label")}
        ids = {attributes["id"] for _, attributes in tags.found if "id" in attributes}
        assert len(ids) == sum("id" in attributes for _, attributes in tags.found)
        for attributes in tags.all("input", "select", "fieldset"):
            if attributes.get("type") != "checkbox":
                assert attributes.get("id") in labelled or "data-name" in attributes
                assert set((attributes["aria-describedby"] or "").split()) <= ids
        for each in contract.request_columns:
            assert f"{each.meaning}" in tags.text
            assert each.unit == "1" or each.kind in (Kind.DATE, Kind.TIME) or f" {each.unit}" in tags.text


@pytest.mark.slow
def test_bounds_categories_and_examples_are_those_of_the_contract(tmp_path: Path) -> None:
    """Bounds and lengths are attributes, categories are choices, and the example is filled in."""
    for contract in contracts(tmp_path):
        fields = Tags(page.form(contract, keyed=False).html).fields()
        for each in contract.request_columns:
            (_, first), *_ = [(tag, found) for tag, found in fields[each.name] if tag in ("input", "select")]
            chosen = [found["value"] for tag, found in fields[each.name] if tag == "option"]
            if each.list_of is not None:
                boxes = [found for _, found in fields[each.name] if "value" in found]
                assert [box["value"] for box in boxes] == list(each.list_of.items)
                ticked = {box["value"] for box in boxes if "checked" in box}
                assert ticked == set(each.list_of.normalise(each.example).split(each.list_of.separator)) - {
                    each.list_of.empty
                }
            elif each.categories or each.kind is Kind.BOOLEAN:
                [selected] = [found["value"] for _, found in fields[each.name] if "selected" in found]
                assert json.loads(selected or "") == each.example
                texts = [json.loads(value or "") for value in chosen]
                assert texts == [*(each.categories or (True, False)), *([None] if each.nullable else [])]
            elif each.kind in (Kind.INTEGER, Kind.NUMBER):
                bounds = [None if bound is None else str(bound) for bound in (each.minimum, each.maximum)]
                assert [first.get("min"), first.get("max")] == bounds
                assert first["step"] == ("1" if each.kind is Kind.INTEGER else "any")
                assert float(first["value"] or "") == each.example
            elif each.kind not in (Kind.DATE, Kind.TIME):
                assert first.get("maxlength") == (str(each.max_length) if each.max_length else None)
                assert first["value"] == each.example


class Hostile(pa.DataFrameModel):
    """Columns of which every text is an attack."""

    row: Series[str] = column(role=Role.KEY, alias=ATTACK, meaning=ATTACK, unit=ATTACK, example=ATTACK)
    number: Series[float] = column(alias=f"1{ATTACK}", meaning=ATTACK, unit=ATTACK, example=1.0, nullable=True)
    choice: Series[str] = column(
        alias=f"2{ATTACK}", meaning=ATTACK, unit=ATTACK, categories=(ATTACK, "b"), example=ATTACK, nullable=True
    )
    entries: Series[str] = column(
        alias=f"3{ATTACK}",
        meaning=ATTACK,
        unit=ATTACK,
        nullable=True,
        example=ATTACK,
        list_of=ListOf(items=(ATTACK.casefold(), "b"), empty=f"empty{ATTACK}", counted_by="x", separator=f"|{ATTACK}"),
    )
    label: Series[str] = column(role=Role.LABEL, meaning=ATTACK, unit="1", categories=("no", "yes"), example="no")


HOSTILE = Contract(
    name="hostile",
    version=ATTACK,
    features=Hostile,
    features_table="a",
    snapshot_table="b",
    predictions_table="c",
    snapshot_date="d",
    max_quarantine_share=0.1,
)


def test_no_text_of_a_contract_is_html() -> None:
    """Names, meanings, units, categories, entries, separators, examples and the version are shown as the texts that they are."""
    tags = Tags(page.form(HOSTILE, keyed=True).html)
    harmless = Tags(page.form(CONTRACT, keyed=True).html)
    assert {tag for tag, _ in tags.found} <= {tag for tag, _ in harmless.found} | {"i"}
    assert len(tags.all("script")) == len(tags.all("style")) == 1
    assert not [name for _, attributes in tags.found for name in attributes if name.startswith("on")]
    assert list(tags.fields()) == [each.name for each in HOSTILE.request_columns]
    for each in HOSTILE.request_columns:
        assert tags.text.count(each.name) >= 1
    assert tags.text.count(ATTACK) >= 4 * 3
    [entries] = [attributes for _, attributes in tags.found if attributes.get("data-kind") == "list"]
    assert (entries["data-empty"], entries["data-separator"]) == (f"empty{ATTACK}", f"|{ATTACK}")
    values = [attributes.get("value") for attributes in tags.all("input", "option")]
    assert {ATTACK, ATTACK.casefold(), json.dumps(ATTACK)} <= set(values)


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_only_the_scripts_of_a_page_can_run(client: TestClient, path: str) -> None:
    """The policy names what is in the page by its hash, and nothing can be put between: no attribute is a script or a style."""
    response = client.get(path)
    policy = dict(part.split(" ", 1) for part in response.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in str(policy)
    assert policy["connect-src"] == "'self'"
    tags = Tags(response.text)
    for tag in ("script", "style"):
        inline = tags.inside.get(tag, [])
        hashes = {f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" for text in inline}
        files = (
            {"'self'"}
            if any("src" in each for each in tags.all(tag)) or (tag == "style" and path == "/docs")
            else set()
        )
        assert set(policy[f"{tag}-src"].split()) == hashes | files
    assert not [name for _, each in tags.found for name in each if name == "style" or name.startswith("on")]
    assert (response.headers["x-content-type-options"], response.headers["referrer-policy"]) == (
        "nosniff",
        "no-referrer",
    )


@pytest.mark.parametrize(
    ("path", "title", "number"), [("/", "Machine condition", 0), ("/docs", "machine_condition API", 2)]
)
def test_a_page_loads_nothing_from_other_hosts(client: TestClient, path: str, title: str, number: int) -> None:
    """It names the service, and every script and style sheet that it loads exists and is on the same host."""
    page = client.get(path)
    assert page.headers["content-type"].startswith("text/html")
    assert f"<title>{title}</title>" in page.text
    tags = Tags(page.text)
    links = [each.get("src") or each.get("href") or "" for each in tags.all("script", "link", "img", "iframe")]
    files = [link for link in links if link and not link.startswith("data:")]
    assert len(files) == number
    for link in files:
        assert client.get(link.removeprefix(".")).status_code == 200
    assert "http" not in page.text


def test_the_links_of_the_form_lead_to_routes(client: TestClient) -> None:
    """To the page of the API and to its document, and the form to a prediction; below whatever path a proxy serves the page."""
    tags = Tags(client.get("/").text)
    addresses = [each["href"] for each in tags.all("a")] + [each["action"] for each in tags.all("form")]
    assert addresses == ["./docs", "./docs.json", "./predict"]
    assert {str(address).removeprefix(".") for address in addresses} <= set(BY_PATH)


def test_a_key_is_asked_for_where_one_is_needed(client: TestClient, tmp_path: Path, model_folder: Path) -> None:
    """A service without keys has no field for one; with keys its name is that of the header."""
    assert "X-API-Key" not in client.get("/").text
    settings = pinned(tmp_path, model_folder, ship_in_process=False, api_keys=SecretStr("api-8rZ1old7fK2mQ9xV4tB"))
    with served(empty_store(settings)) as guarded:
        [key] = [each for each in Tags(guarded.get("/").text).all("input") if each.get("type") == "password"]
    assert key["data-header"] == "X-API-Key"
    assert "value" not in key
