"""Error responses: problem details (RFC 9457), all created here."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

MEDIA_TYPE = "application/problem+json"
SHOWN_CHARACTERS = 64
SHOWN_VIOLATIONS = 50
RETRY_AFTER = 5
"""Seconds after which a client may retry when the service is unavailable."""

Scalar = str | int | float | bool | None


class Violation(BaseModel):
    """One rule that the request's body broke."""

    model_config = ConfigDict(frozen=True)

    field: str = Field(description="where in the body, such as data.age; empty: the body itself")
    rule: str = Field(description="what was broken")
    value: Scalar = Field(default=None, description="what was given, cut if long; left out where it may be personal")


class ProblemDetails(BaseModel):
    """Why a request was not answered as asked (RFC 9457)."""

    model_config = ConfigDict(frozen=True)

    type: str = Field(default="about:blank", description="kind of the problem; about:blank: see status")
    title: str = Field(description="the status in words")
    status: int = Field(description="HTTP status", ge=400, le=599)
    detail: str = Field(description="what is wrong, and what to do")
    errors: list[Violation] = Field(default=[], description="every rule that was broken, where there are any")


class Problem(Exception):
    """A request that is refused.

    Args:
        status: HTTP status, 400 to 599.
        detail: what is wrong and what to do, for the client.
        errors: the rules that the body violates.
        headers: additional headers of the response.
    """

    def __init__(
        self, status: int, detail: str, *, errors: Sequence[Violation] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.errors = list(errors)
        self.headers = dict(headers or {})
        self._detail = detail

    def body(self) -> bytes:
        """Return the problem as JSON."""
        details = ProblemDetails(
            title=HTTPStatus(self.status).phrase, status=self.status, detail=self._detail, errors=self.errors
        )
        return details.model_dump_json(exclude_unset=True).encode()


def unavailable(detail: str) -> Problem:
    """Return the problem of a service that is temporarily unavailable."""
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": str(RETRY_AFTER)})


def invalid_body(error: ValidationError, known: frozenset[str], *, first_row: int | None = None) -> Problem:
    """Return the problem of a body that violates the payload contract.

    A value is shown only for fields of the contract, which are not personal: other fields of a request may contain
    anything.

    Args:
        error: the errors that pydantic found.
        known: fields of a row whose values may be shown.
        first_row: if the errors are of a list of rows, the index of its first row in the body; otherwise None.
    """
    found = error.errors(include_url=False, include_context=False)
    if found[0]["type"] == "json_invalid":
        return Problem(
            HTTPStatus.BAD_REQUEST, f"the body is not JSON: {found[0]['msg'].removeprefix('Invalid JSON: ')}"
        )
    if first_row is not None:
        for detail in found:
            index, *rest = detail["loc"]
            detail["loc"] = ("data", first_row + int(index), *rest)
    errors = [_violation(detail, known) for detail in found[:SHOWN_VIOLATIONS]]
    first = f"{errors[0].field or 'the body'}: {errors[0].rule}"
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"{first}{more}", errors=errors)


def known_field(field: str, known: frozenset[str]) -> bool:
    """Return whether a location in the body, such as data.hours or data.7.hours, is a known field of a row."""
    match field.split("."):
        case ["data", name]:
            return name in known
        case ["data", index, name]:
            return index.isdecimal() and name in known
    return False


def _violation(detail: ErrorDetails, known: frozenset[str]) -> Violation:
    field = ".".join(str(part) for part in detail["loc"])[: 2 * SHOWN_CHARACTERS]
    value = detail["input"]
    if known_field(field, known) and detail["type"] != "missing" and isinstance(value, Scalar):
        return Violation(field=field, rule=detail["msg"], value=_shown(value))
    return Violation(field=field, rule=detail["msg"])


def _shown(value: Scalar) -> Scalar:
    if isinstance(value, str):
        return value if len(value) <= SHOWN_CHARACTERS else value[:SHOWN_CHARACTERS] + "..."
    if isinstance(value, float) and value - value != 0:  # JSON has no infinity and no NaN
        return str(value)
    if isinstance(value, int) and value.bit_length() > 64:
        return "a number beyond 64 bits"
    return value


def of_status(status: int) -> Problem:
    """Return the problem that replaces an error response of the framework."""
    details = {
        HTTPStatus.NOT_FOUND: "no such path; / describes the API",
        HTTPStatus.METHOD_NOT_ALLOWED: "the path has no such method; / describes the API",
        HTTPStatus.SERVICE_UNAVAILABLE: "the service cannot answer now",
    }
    fallback = "the request cannot be served" if status < 500 else "the service failed; its log says why"
    return Problem(status, details.get(HTTPStatus(status), fallback))
