"""Faults of the network between a client and a server: delays, and connections that break at a chosen point."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from threading import Thread


class Cut(Enum):
    """When a connection breaks."""

    WITHIN = "within the request: the server gets half of it"
    BEFORE_ANSWER = "before the answer: the server has executed the request, and the client does not know it"


class Proxy:
    """Forwards the traffic between a TCP server and its clients.

    Args:
        port: port of the server, on this machine.
    """

    def __init__(self, port: int) -> None:
        self.delay = 0.0
        """Delay of each part of a request, seconds."""
        self.word, self.cut = b"", Cut.WITHIN
        """A request that contains this word breaks the connection; empty: none does."""
        self.cuts = 0
        """Number of connections broken."""
        self._server = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Accept no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._server))
        except OSError:
            client.close()
            return
        Thread(target=self._forward_answers, args=(server, client), daemon=True).start()
        with client, server:
            try:
                self._forward_requests(client, server)
            finally:
                _end(client, server)

    def _forward_requests(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while request := client.recv(1 << 16):
                time.sleep(self.delay)
                if self.word and self.word in request:
                    self.cuts += 1
                    if self.cut is Cut.WITHIN:
                        server.sendall(request[: len(request) // 2])
                    else:
                        client.shutdown(socket.SHUT_WR)  # so that the answer cannot be returned
                        server.sendall(request)
                        time.sleep(0.2)
                    return
                server.sendall(request)

    def _forward_answers(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while answer := server.recv(1 << 16):
                client.sendall(answer)
        _end(client, server)


def _end(*connections: socket.socket) -> None:
    """End connections at both sides, also one that another thread reads: closing alone would keep that one open."""
    for each in connections:
        with suppress(OSError):  # it has ended already
            each.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxy(port: int) -> Iterator[Proxy]:
    """Run a proxy for a server on this machine while the block runs."""
    between = Proxy(port)
    try:
        yield between
    finally:
        between.close()
