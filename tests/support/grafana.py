"""Dashboards against Grafana's schema: the models of grafana-foundation-sdk are generated from it, with a type for each field.

Reading a document into the models checks no types. Grafana publishes its schema as CUE and as code, not as JSON Schema.
"""

from collections.abc import Iterator
from enum import Enum
from types import NoneType
from typing import Any, Union, get_args, get_origin, get_type_hints

from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.runtime import Runtime
from grafana_foundation_sdk.models.dashboard import Dashboard


def dashboard(document: dict[str, Any]) -> Dashboard:
    """Return a document as Grafana's models, the queries and options of its panels included."""
    plugins.register_default_plugins()
    try:
        return Dashboard.from_json(document)
    finally:  # the models of plugins fill in defaults, which the document need not have
        for registered in (Runtime().dataquery_variants, Runtime().panelcfg_variants):
            registered.clear()


def misfits(value: Any, hint: Any = Dashboard, place: str = "dashboard") -> Iterator[str]:
    """Yield the places whose value is not of the type that the schema asks for."""
    kind, inner = get_origin(hint), get_args(hint)
    if kind is Union:
        possible = [each for each in inner if (each is NoneType) == (value is None)] or inner
        yield from min((list(misfits(value, each, place)) for each in possible), key=len)
    elif kind in (list, dict):
        if not isinstance(value, kind):
            yield place
            return
        for name, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from misfits(each, inner[-1], f"{place}[{name}]")
    elif isinstance(hint, type) and issubclass(hint, Enum):
        if value not in [each.value for each in hint]:
            yield place
    elif isinstance(hint, type):
        if (isinstance(value, bool) and hint is not bool) or not isinstance(
            value, int | float if hint is float else hint
        ):
            yield place
        elif type(value).__module__.startswith("grafana"):
            for name, of_field in get_type_hints(type(value)).items():
                yield from misfits(getattr(value, name), of_field, f"{place}.{name}")
