"""A Great Expectations checkpoint that runs in the database."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Engine, NullPool

from ctcd.errors import UsageError
from ctcd.monitoring.expectations import Rule

if TYPE_CHECKING:
    from great_expectations.data_context.data_context.ephemeral_data_context import EphemeralDataContext
    from great_expectations.datasource.fluent import SQLDatasource

MOST_ROWS = 100
"""Maximum number of rows that a query of the data monitor fetches from a server."""

_EXAMPLES = 3
_PROBLEM_LENGTH = 200
_VALUE_LENGTH = 100
_RULE = "rule"
"""Key in the metadata of an expectation: index of its rule. Results are returned in no particular order."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Result of one rule in the database.

    Args:
        observed: observed value, or examples of offending values, as text.
        failed: number of rows that break the rule; 0 for a rule about the whole table.
    """

    passed: bool
    observed: str
    failed: int


def require() -> None:
    """Check that Great Expectations, an optional dependency, is installed.

    Raises:
        UsageError: it is not.
    """
    try:
        import great_expectations  # noqa: F401 - imported only to see whether it is installed
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is not installed", hint="install ctcd[contract]") from error


def run(engine: Engine, query: str, rules: Sequence[Rule], *, name: str) -> dict[int, Answer]:
    """Evaluate every rule that has an expectation on the rows of an SQL query, in the database.

    Great Expectations' own pages, Data Docs, are not written: they show nothing without scripts from other hosts.

    Returns:
        The answers by index of the rule, without the rules that have no expectation.
    """
    import great_expectations as gx

    context = _context()
    source = _source(context, engine)
    batch = source.add_query_asset(name=name, query=query).add_batch_definition_whole_table("snapshot")
    asked = []
    for number, rule in enumerate(rules):
        if rule.expectation is not None:
            rule.expectation.meta = {_RULE: number}
            rule.expectation.notes = f"{rule.rule}: {rule.limit}"
            asked.append(rule.expectation)
    suite = gx.ExpectationSuite(name=name, expectations=asked)
    definition = gx.ValidationDefinition(name=name, data=batch, suite=context.suites.add(suite))
    checkpoint = gx.Checkpoint(
        name=name,
        validation_definitions=[context.validation_definitions.add(definition)],
        result_format={"result_format": "SUMMARY", "partial_unexpected_count": _EXAMPLES},
    )
    outcome = context.checkpoints.add(checkpoint).run()
    documents: list[Any] = [
        result.to_json_dict() for validation in outcome.run_results.values() for result in validation.results
    ]
    return {document["expectation_config"]["meta"][_RULE]: _answer(document) for document in documents}


def _context() -> "EphemeralDataContext":
    """Return a context that keeps everything in memory: it writes nothing, and sends nothing."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    config = DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
        analytics_enabled=False,
        progress_bars=ProgressBarsConfig(globally=False, metric_calculations=False),
    )
    return gx.get_context(mode="ephemeral", project_config=config)


def encoded(url: URL) -> str:
    """Return a URL, including its password, in a form that Great Expectations accepts.

    It rejects blanks. A "$" would start a variable, but SQLAlchemy has already encoded it.
    """
    return url.render_as_string(hide_password=False).replace(" ", "%20")


def _source(context: "EphemeralDataContext", engine: Engine) -> "SQLDatasource":
    """Return the store as a data source, which is kept in memory, so that no file contains the password."""
    url = encoded(engine.url)
    if engine.dialect.name == "sqlite":
        return context.data_sources.add_or_update_sqlite(  # type: ignore[call-arg]  # the stub lacks this field
            name="store", connection_string=url, create_temp_table=False, kwargs={"hide_parameters": True}
        )
    # To get the column names of a query, Great Expectations runs it, and the driver would fetch the whole snapshot.
    # It makes several engines, which must not keep a connection each.
    # This limits the rows that the server sends, not the rows that a query reads.
    most = {
        "connect_args": {"init_command": f"SET sql_select_limit = {MOST_ROWS}"},
        "poolclass": NullPool,
        "hide_parameters": True,
    }
    return context.data_sources.add_or_update_sql(  # type: ignore[call-arg]  # the stub lacks this field
        name="store", connection_string=url, create_temp_table=False, kwargs=most
    )


def _answer(result: Mapping[str, Any]) -> Answer:
    found = result["result"]
    problem = _problem(result.get("exception_info") or {})
    if problem:
        return Answer(passed=False, observed=f"cannot be answered: {problem}", failed=0)
    count = int(found.get("unexpected_count") or 0)
    if "observed_value" in found:
        return Answer(passed=bool(result["success"]), observed=_text(found), failed=count)
    shown = ", ".join(_short(value) for value in found.get("partial_unexpected_list", ()))
    return Answer(passed=bool(result["success"]), observed=shown, failed=count)


def _short(value: object) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)[:_VALUE_LENGTH]


def _problem(info: Mapping[str, Any]) -> str:
    """Return why an expectation could not be evaluated, or ""; the reasons are nested by metric."""
    for reason in (info, *info.values()):
        if isinstance(reason, Mapping) and reason.get("raised_exception"):
            return str(reason.get("exception_message", "")).strip().split("\n", 1)[0][:_PROBLEM_LENGTH]
    return ""


def _text(found: Mapping[str, Any]) -> str:
    observed = found["observed_value"]
    if isinstance(observed, list):
        mismatched = found.get("details", {}).get("mismatched", {})
        return "; ".join(f"{kind}: {', '.join(map(str, values))}" for kind, values in mismatched.items())
    return f"{observed:.6g}" if isinstance(observed, float) else str(observed)
