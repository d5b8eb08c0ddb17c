"""The rules for compose files."""

import re
from collections.abc import Iterator
from typing import Any

import yaml

_SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|KEY", re.IGNORECASE)
_SECRET_FILE = re.compile(r"_FILE$")
_REQUIRED = re.compile(r"^\$\{[A-Z_]+:\?[^}]+\}$")
_LITERAL_IN_URL = re.compile(r"://[^/\s:@]*:(?!\$\{)[^@/\s]+@")
_VARIABLE = re.compile(r"\$\{[A-Z_]+:-([^}]*)\}")
_WAITS_FOR = {"service_healthy", "service_completed_successfully"}


def broken_rules(text: str) -> list[str]:
    """Return the rules that a compose file breaks, each with the service that breaks it.

    A service that cannot keep a rule gives the reason in `x-reasons`, under the key that the rule is about.
    """
    document = yaml.load(text, yaml.CSafeLoader)  # in C: a tenth of the time
    services: dict[str, dict[str, Any]] = document["services"]
    volumes = document.get("volumes") or {}
    return [
        f"{name}: {problem}"
        for name, service in services.items()
        for problem in (*_rights(service), *_reach(service), *_secrets(service), *_state(service, volumes))
    ]


def _rights(service: dict[str, Any]) -> Iterator[str]:
    reasons = service.get("x-reasons") or {}
    if service.get("read_only") is not True and "read_only" not in reasons:
        yield "its root can be written to"
    if service.get("cap_drop") != ["ALL"] and "cap_drop" not in reasons:
        yield "it keeps capabilities"
    if service.get("cap_add") and "cap_add" not in reasons:
        yield "it gets capabilities without a reason"
    if "no-new-privileges:true" not in (service.get("security_opt") or ()) and "security_opt" not in reasons:
        yield "it may gain privileges"
    if service.get("privileged") or "root" in str(service.get("user", "")) or str(service.get("user", "1")) == "0":
        yield "it is privileged"
    if not service.get("pids_limit"):
        yield "it may start any number of processes"


def _reach(service: dict[str, Any]) -> Iterator[str]:
    for port in service.get("ports") or ():
        if not str(port).startswith("127.0.0.1:"):
            yield f"port {port} is open to other machines"
    if service.get("network_mode"):
        yield "it leaves the stack's network"
    image = _VARIABLE.sub(r"\1", service.get("image", ""))
    tag = image.rpartition("/")[2].partition(":")[2]
    if tag in ("", "latest"):
        yield f"image {image!r} has no version"


def _secrets(service: dict[str, Any]) -> Iterator[str]:
    for name, value in (service.get("environment") or {}).items():
        if _SECRET.search(name) and not _SECRET_FILE.search(name) and not _REQUIRED.match(str(value)):
            yield f"{name} does not come from .env"
        if _LITERAL_IN_URL.search(str(value)):
            yield f"{name} holds a password"
    for part in (*(service.get("command") or ()), *(service.get("entrypoint") or ())):
        if _LITERAL_IN_URL.search(part) or _REQUIRED.search(part):
            yield "a password is in its command line"


def _state(service: dict[str, Any], volumes: dict[str, Any]) -> Iterator[str]:
    reasons = service.get("x-reasons") or {}
    check = service.get("healthcheck") or {}
    if (not check.get("test") or check.get("disable")) and "healthcheck" not in reasons:
        yield "it has no health check"
    needs = service.get("depends_on") or {}
    for other in needs:
        if not isinstance(needs, dict) or needs[other].get("condition") not in _WAITS_FOR:
            yield f"it does not wait until {other} is healthy"
    for mount in service.get("volumes") or ():
        source, _, rest = mount.partition(":")
        if source.startswith("./") and rest.endswith(":ro"):
            continue
        if source not in volumes:
            yield f"volume {source} has no name in the file"
