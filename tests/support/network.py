"""Ports of the loopback interface."""

import secrets
import socket
from collections.abc import Iterable
from contextlib import suppress

import psutil

PORTS = range(20_000, 32_000)
"""Below those that the kernel gives to connections: one of these could take a port before its server listens on it."""

LOOPBACK = {"127.0.0.1", "::1"}


def free_port() -> int:
    """Return a port of 127.0.0.1 that is not in use, nor is the next one."""
    while True:
        port = secrets.choice(PORTS)
        with socket.socket() as probe, socket.socket() as following, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            following.bind(("127.0.0.1", port + 1))
            return port


def listening(family: Iterable[psutil.Process] | None = None) -> set[tuple[str, int]]:
    """Return every address and port that is listened on, or only those of some processes and those whose process is unknown.

    The kernel's list, not that of each process: in a container without ptrace even root may not look into all of them. An
    address of IPv4 is told as one, also if a server of IPv6, such as one in Java, listens on it.
    """
    sockets = [each for each in psutil.net_connections() if each.status == psutil.CONN_LISTEN]
    if family is not None:
        known = {None, *(process.pid for process in family)}
        sockets = [each for each in sockets if each.pid in known]
    return {(each.laddr.ip.removeprefix("::ffff:"), each.laddr.port) for each in sockets}
