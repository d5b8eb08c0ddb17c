"""Error responses: problem details (RFC 9457), all created here."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus

from pydantic import BaseModel, Field, ValidationError
from pydantic_core import ErrorDetails

MEDIA_TYPE = "application/problem+json"
SHOWN_CHARACTERS = 64
SHOWN_VIOLATIONS = 50
RETRY_AFTER = 5
"""Seconds after which a client may retry when the service is unavailable."""

Scalar = str | int | float | bool | None

_UNKNOWN = frozenset({"extra_forbidden", "unexpected_keyword_argument"})
"""Pydantic's errors for a field that there is not."""


class Violation(BaseModel, frozen=True):
    """One rule that the request's body broke."""

    field: str = Field(
        description="where in the body, such as data.age; up to the first name that is not in the contract; empty: the body itself"
    )
    rule: str = Field(description="what was broken")
    value: Scalar = Field(default=None, description="what was given, cut if long; left out where it may be personal")


class ProblemDetails(BaseModel, frozen=True):
    """Why a request was not answered as asked (RFC 9457)."""

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


class NotJson(Problem):
    """A body that is not JSON; the reason says why, without any of its content."""

    def __init__(self, reason: str) -> None:
        super().__init__(HTTPStatus.BAD_REQUEST, f"the body is not JSON: {reason}")
        self.reason = reason


class Invalid(Problem):
    """A body that violates the payload contract in one way or more.

    Names and values are shown only of fields of the contract, which are `known` and not personal: any other field of a
    request may hold anything, in its name as well. Unless the errors found are `complete`, there may be more.
    """

    def __init__(
        self, found: Sequence[ErrorDetails], known: frozenset[str] = frozenset(), *, complete: bool = True
    ) -> None:
        errors = [_violation(detail, known) for detail in found[:SHOWN_VIOLATIONS]]
        first = f"{errors[0].field or 'the body'}: {errors[0].rule}"
        more = f" (and {'' if complete else 'at least '}{len(found) - 1} more)" if len(found) > 1 else ""
        super().__init__(HTTPStatus.UNPROCESSABLE_ENTITY, f"{first}{more}", errors=errors)


def of_validation(error: ValidationError, known: frozenset[str] = frozenset()) -> Problem:
    """Return the problem of a body that does not fit a model; for `known` see `Invalid`."""
    found = error.errors(include_url=False, include_context=False)
    if found[0]["type"] == "json_invalid":
        return NotJson(found[0]["msg"].removeprefix("Invalid JSON: "))
    return Invalid(found, known)


def unavailable(detail: str) -> Problem:
    """Return the problem of a service that is temporarily unavailable."""
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": str(RETRY_AFTER)})


def _violation(detail: ErrorDetails, known: frozenset[str]) -> Violation:
    location = _location(detail["loc"], known)
    rule = "has a field that is not in the contract" if detail["type"] in _UNKNOWN else detail["msg"]
    # A value belongs to a field of a row only if the whole location is known.
    named = 2 <= len(location) == len(detail["loc"]) and location[-1] in known
    if named and detail["type"] != "missing" and isinstance(detail["input"], Scalar):
        return Violation(field=".".join(location), rule=rule, value=_shown(detail["input"]))
    return Violation(field=".".join(location), rule=rule)


def _location(loc: Sequence[int | str], known: frozenset[str]) -> list[str]:
    """Return a location up to its first name that is not in the contract."""
    location: list[str] = []
    for part in loc:
        if not (isinstance(part, int) or part in known if location else part == "data"):
            break
        location.append(str(part))
    return location


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
