"""The pages for people: a form that asks for a prediction, and the OpenAPI document.

Both are made once, when the service starts, and load nothing from other hosts. The content security policy names the
scripts and style sheets in them by their hashes, so that nothing else in a page can run, whatever a contract says.
"""

import json
from base64 import b64encode
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from ctcd.contract.spec import Column, Contract, Kind, category_text
from ctcd.html_report import from_template
from ctcd.serving.http.routes import API_KEY_HEADER, ROUTES

_PATHS = {route.name: f".{route.path}" for route in ROUTES}
"""Relative, so that they hold behind a proxy that serves the pages below a path."""
_ALWAYS = "default-src 'none'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_SHOW_DOCUMENT = """
SwaggerUIBundle({
  url: "./docs.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  presets: [SwaggerUIBundle.presets.apis],
});
"""


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page and its content security policy."""

    html: str
    policy: str

    @property
    def headers(self) -> dict[str, str]:
        """The headers that it is sent with."""
        return {
            "Content-Security-Policy": self.policy,
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }


def form(contract: Contract, *, keyed: bool) -> Page:
    """Return the page with a form of every column of a request; with a field for the API key if requests need one."""
    style, script = _file("predict.css"), _file("predict.js")
    html = from_template(
        "page/predict.html.j2",
        contract=contract,
        title=contract.name.replace("_", " ").capitalize(),
        fields=[_field(column) for column in contract.request_columns],
        key_header=API_KEY_HEADER if keyed else "",
        paths=_PATHS,
        style=style,
        script=script,
    )
    return Page(html=html, policy=f"{_ALWAYS}; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}")


def docs(contract: Contract) -> Page:
    """Return the page that shows the OpenAPI document.

    BentoML's own page loads a tracker from another host; this one loads only the Swagger UI that BentoML includes.
    """
    script = Markup(_SHOW_DOCUMENT)  # noqa: S704 - a constant
    html = from_template("page/docs.html.j2", title=f"{contract.name} API", script=script)
    return Page(html=html, policy=f"{_ALWAYS}; img-src data:; style-src 'self'; script-src 'self' {_hash(script)}")


def _file(name: str) -> Markup:
    """Return a script or a style sheet of the package."""
    return Markup((files("ctcd") / "templates" / "page" / name).read_text(encoding="utf-8"))  # noqa: S704 - nothing from outside


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


_STEPS = {Kind.INTEGER: "1", Kind.NUMBER: "any"}
_DATES = {Kind.DATE: "date", Kind.TIME: "datetime-local"}


def _field(column: Column) -> dict[str, Any]:
    """Return how a column is entered: `kind` is how the script reads it, `value` the example."""
    value = "" if column.example is None else str(column.example)
    choices = column.categories or ((True, False) if column.kind is Kind.BOOLEAN else ())
    field: dict[str, Any] = {"kind": "text", "attributes": {"type": "text", "maxlength": column.max_length}}
    if column.list_of is not None:
        ticked = column.list_of.normalise(value).split(column.list_of.separator)
        field = {"kind": "list", "entries": [(item, item in ticked) for item in column.list_of.items]}
    elif choices:
        value = json.dumps(column.example)
        texts = [(json.dumps(each), category_text(each)) for each in choices]
        field = {"kind": "json", "choices": [*texts, *([("null", "missing")] if column.nullable else [])]}
    elif column.kind in _STEPS:
        bounds = {"min": column.minimum, "max": column.maximum, "step": _STEPS[column.kind]}
        field = {"kind": "number", "attributes": {"type": "number", **bounds}}
        value = value.removesuffix(".0")
    elif column.kind in _DATES:
        field["attributes"] = {"type": _DATES[column.kind], "step": None if column.kind is Kind.DATE else "1"}
        if value and column.kind is Kind.TIME:
            value = datetime.fromisoformat(value).isoformat(timespec="milliseconds")
    unit = "" if column.unit == "1" or column.kind in _DATES else column.unit
    return {
        "column": column,
        "value": value,
        "unit": unit,
        "hint": _hint(column),
        "entries": (),
        "choices": (),
        **field,
    }


def _hint(column: Column) -> str:
    low, high = (
        None if bound is None else f"{bound:,}".removesuffix(".0") for bound in (column.minimum, column.maximum)
    )
    bounds = f"{low} to {high}" if low and high else f"at least {low}" if low else f"at most {high}" if high else ""
    length = f"at most {column.max_length:,} characters" if column.max_length and column.list_of is None else ""
    return "".join(f" · {part}" for part in (bounds, length, "optional" if column.nullable else "") if part)
