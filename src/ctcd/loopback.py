"""Calls to this machine itself, which never go through a proxy: it could not reach us, and it would see the API key."""

import ipaddress
from urllib.parse import urlsplit
from urllib.request import OpenerDirector, ProxyHandler, build_opener


def opener(url: str) -> OpenerDirector:
    """Return what opens a URL: without a proxy if its host is this machine, otherwise with that of the environment."""
    return build_opener(ProxyHandler({})) if is_loopback(urlsplit(url).hostname or "") else build_opener()


def is_loopback(host: str) -> bool:
    """Return whether a host's name or address can only be this machine."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return address.is_loopback or address.is_unspecified
