"""Which service a workflow may load-test: whoever starts it chooses the URL, and the API key is sent there."""

from urllib.parse import urlsplit

from ctcd.errors import UsageError

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def allowed(url: str, hosts: str) -> str:
    """Return the origin of a URL (scheme, host and port) whose host is in a comma-separated list.

    Raises:
        UsageError: the host is not in the list, or the URL is not HTTPS and not of this machine.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise UsageError(f"not a URL: {error}", where="LOAD_URL") from error
    if host not in {each.strip().lower() for each in hosts.split(",")} - {""}:
        raise UsageError(
            f"host {host!r} is not one of LOAD_HOSTS ({hosts or 'empty'})",
            where="LOAD_URL",
            hint="only a maintainer can add a host: it is sent the API key",
        )
    if parts.scheme != "https" and not (parts.scheme == "http" and host in LOOPBACK):
        raise UsageError(f"{parts.scheme or 'no scheme'}: the API key is sent over https only", where="LOAD_URL")
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{f':{port}' if port else ''}"
