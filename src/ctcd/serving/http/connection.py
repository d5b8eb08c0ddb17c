"""The HTTP connections of a worker: their number, how long they may take, and offers to upgrade."""

import asyncio
import resource
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, ClassVar, cast

import httptools
import uvicorn.config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from ctcd.serving.http import problems
from ctcd.serving.http.middleware import TRACE, RequestRecorder, Trace
from ctcd.serving.http.problems import Problem
from ctcd.settings import Settings

HEAD_BYTES = 65_536
"""How much of an incomplete request head is kept: request line and headers, or the headers after a body in chunks."""
PIECE_BYTES = 4_096
"""How much is parsed at once. All its requests but at most one wait, the smallest in about 2 KB of memory each."""
DESCRIPTORS = 128
"""File descriptors that are not for connections: log, outbox, store, models."""


class ConnectionLimiter:
    """Limits the connections of a worker: admits or refuses each, and calls `opened` with their number."""

    def __init__(self, settings: Settings, recorder: RequestRecorder, opened: Callable[[int], None]) -> None:
        self.recorder = recorder
        self.seconds = settings.header_seconds
        self.most = min(settings.max_connections, max(resource.getrlimit(resource.RLIMIT_NOFILE)[0] - DESCRIPTORS, 2))
        # One address never takes all of them.
        self.most_of_one = min(settings.max_connections_per_address, -(-self.most // 2))
        self._opened = opened
        self._of: Counter[str] = Counter()

    def admit(self, address: str) -> Problem | None:
        """Count a connection; return why it is refused, or None."""
        self._of[address] += 1
        self._opened(self._of.total())
        if self._of[address] > self.most_of_one:
            return problems.unavailable("too many connections from one address; close some, or try again later")
        if self._of.total() > self.most:
            return problems.unavailable("too many connections; try again later")
        return None

    def release(self, address: str) -> None:
        """Count a connection that has ended."""
        self._of[address] -= 1
        if not self._of[address]:
            del self._of[address]
        self._opened(self._of.total())


class _Flow(FlowControl):
    """Reads nothing while it is held; uvicorn reads on after each answer, however many requests wait for theirs."""

    held = False

    def hold(self) -> None:
        """Read nothing until `held` is unset and uvicorn reads on."""
        self.held = True
        self.pause_reading()

    def resume_reading(self) -> None:
        """Read on, which uvicorn asks for after each answer and before each part of a body."""
        if self.read_paused and not self.held:
            super().resume_reading()


class Connection(HttpToolsProtocol):
    """uvicorn's HTTP connection, which by default waits forever and answers in plain text what it cannot parse.

    - A connection has some seconds for the head of its first request, and for that of another one once it has begun. A
      client that does not read its answer for as long is cut off.
    - A client may send requests before earlier ones are answered. While one of them waits for its turn, or the head of
      another one has begun, nothing more is read or parsed: what is kept in memory does not grow with what is sent.
    - Too many connections, a head that is late or too large, and what is not HTTP are answered like all other refusals,
      after the answers to the requests before it.
    - An offer to upgrade (`Upgrade: h2c`, as Java's client sends) is ignored, as RFC 9110 allows. The parser stops at
      one and takes the body for another protocol (https://github.com/Kludex/uvicorn/issues/2722), so it starts anew
      with a head without the offer.
    """

    limiter: ClassVar[ConnectionLimiter]
    """Set by `install`."""
    flow: _Flow

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        """Count the connection, and refuse it if there are too many."""
        super().connection_made(transport)
        self.flow = _Flow(transport)
        self._timer: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._in_head = self._offered = False
        self._whole = False  # whether the last request has arrived completely
        self._unparsed = b""  # the rest of a read, while what precedes it waits
        self._problem: Problem | None = None  # what is refused once all requests before it are answered
        self._head = 0  # bytes that arrived since a request began, its head ended, or a part of its body arrived
        client: tuple[str, int] | None = self.client
        self._address = client[0] if client else ""
        refused = self.limiter.admit(self._address)
        if refused is not None:
            self._refuse(refused)
        else:
            self._timer = self.loop.call_later(self.limiter.seconds, self._late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        super().connection_lost(exc)
        # Requests whose turn never comes refer to the connection, and it to them: both would stay in memory.
        self.pipeline.clear()
        self._unparsed = b""
        self.cycle = None  # type: ignore[assignment] # as at the beginning
        self._stop_timer()
        self.resume_writing()
        self._unset_keepalive_if_required()
        self.limiter.release(self._address)

    def data_received(self, data: bytes) -> None:
        """Parse what has arrived, and set the time limit for what has not."""
        if len(data) > PIECE_BYTES:
            self._parse_pieces(data)
            return
        self._head += len(data)
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        rest: bytes | None = data
        try:
            while rest is not None:  # there may be thousands of requests, each with an offer
                rest = self._parse(rest)
        except httptools.HttpParserError:
            self._refuse(Problem(HTTPStatus.BAD_REQUEST, "the request is not HTTP/1.1"))
            return
        if self._busy():  # a request is in progress, and its handler has time limits of its own
            if self._in_head or self.pipeline:  # its answer needs nothing more
                self.flow.hold()
            elif self._head > HEAD_BYTES:
                self._refuse(
                    Problem(HTTPStatus.BAD_REQUEST, f"headers after a body may have at most {HEAD_BYTES} bytes")
                )
            return
        if self._whole:
            # The rest of a body that was answered before it had arrived.
            self._stop_timer()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
            return
        if self._timer is None:
            self._timer = self.loop.call_later(self.limiter.seconds, self._late)
        if self._head > HEAD_BYTES:
            self._give_up(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"headers may have at most {HEAD_BYTES} bytes")

    def on_message_begin(self) -> None:
        """Note that a head begins."""
        super().on_message_begin()
        self._in_head, self._whole, self._head = True, False, 0

    def on_headers_complete(self) -> None:
        """Start to answer, unless the parser takes what follows for another protocol."""
        self._offered = self.parser.should_upgrade()
        if self._offered:
            return
        if self._timer is not None:
            self._stop_timer()
        super().on_headers_complete()  # raises if the URL cannot be parsed
        self._in_head, self._head = False, 0

    def on_body(self, body: bytes) -> None:
        """Note that a part of a body has arrived."""
        super().on_body(body)
        self._head = 0

    def on_message_complete(self) -> None:
        """Note that a request has arrived."""
        if not self._offered:
            self._whole = True
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Refuse what follows the last request, or read on if the next answer needs it; limit the time of the rest."""
        if self._problem is not None:
            if not (self.pipeline or self.transport.is_closing()):
                self._end(self._problem)
        elif self.flow.held:
            self.flow.held = len(self.pipeline) > 1 or bool(self.pipeline and self._in_head)
        super().on_response_complete()
        if self._unparsed:
            self._parse_pieces(self._unparsed)
        if not (self._whole or self._busy() or self._timer or self.transport.is_closing()):
            self._unset_keepalive_if_required()
            self._timer = self.loop.call_later(self.limiter.seconds, self._late)

    def _parse_pieces(self, data: bytes) -> None:
        begin = 0
        while begin < len(data) and not (self.flow.held or self.transport.is_closing()):
            self.data_received(data[begin : begin + PIECE_BYTES])
            begin += PIECE_BYTES
        self._unparsed = data[begin:]

    def _parse(self, data: bytes) -> bytes | None:
        """Parse to the end (None), or to an offer to upgrade: then return its head without the offer, and the rest."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as error:
            return self._without_offer(data[error.args[0] :])
        return None

    def _without_offer(self, rest: bytes) -> bytes | None:
        method = self.parser.get_method()
        if method == b"CONNECT":  # always asks for another protocol
            self._refuse(Problem(HTTPStatus.METHOD_NOT_ALLOWED, "the service is not a proxy"))
            return None
        lines = [b"%s %s HTTP/%s" % (method, self.url, self.parser.get_http_version().encode())]
        for name, value in self.headers:
            if name == b"connection":
                kept = [token for token in value.split(b",") if token.strip().lower() != b"upgrade"]
                lines.append(b"connection:" + b",".join(kept))
            elif name != b"upgrade":
                lines.append(name + b":" + value)
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        return b"\r\n".join([*lines, b"", rest])

    def _busy(self) -> bool:
        """Return whether a request is being answered."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _late(self) -> None:
        self._timer = None
        self._give_up(HTTPStatus.REQUEST_TIMEOUT, "the request's headers did not arrive in time")

    def _give_up(self, status: HTTPStatus, detail: str) -> None:
        """Refuse a head that does not end, or close the connection while the rest of what was answered arrives."""
        if self._in_head or self.cycle is None:
            self._refuse(Problem(status, detail))
        else:
            self._stop_timer()
            self.transport.close()

    def _refuse(self, problem: Problem) -> None:
        """Answer what is no request, once those before it are answered, and close the connection."""
        self._stop_timer()
        if self.transport.is_closing():
            return
        if not self._busy():
            self._end(problem)
        elif self._in_head or self._whole or self.pipeline:
            if not (self._in_head or self._whole):  # the body of the last request, whose turn has not come
                self.pipeline.popleft()
            self._problem = problem
            self.flow.hold()
        elif self.cycle.response_started:
            self.transport.close()  # nothing may be said within an answer
        else:  # the body of the request that is being answered, which the middleware notes
            self._write(problem, cast("dict[str, Any]", self.cycle.scope).get(TRACE) or Trace())

    def _end(self, problem: Problem) -> None:
        trace = Trace()
        self.limiter.recorder.record("", "", problem.status, trace)
        self._write(problem, trace)

    def _write(self, problem: Problem, trace: Trace) -> None:
        headers, body = self.limiter.recorder.problem(problem, trace)
        head = [STATUS_LINE[problem.status], *(b"%s: %s\r\n" % header for header in headers)]
        self.transport.write(b"".join([*head, b"connection: close\r\n\r\n", body]))
        self.transport.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def pause_writing(self) -> None:
        """Watch a client that does not read its answer."""
        super().pause_writing()
        self._watch_reader(None)

    def resume_writing(self) -> None:
        """Stop watching."""
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _watch_reader(self, before: int | None) -> None:
        left = self.transport.get_write_buffer_size()
        if before is not None and left >= before:
            self.transport.abort()
            return
        self._unread = self.loop.call_later(self.limiter.seconds, self._watch_reader, left)


def install(limiter: ConnectionLimiter) -> None:
    """Let uvicorn use `Connection` in this process; BentoML has no setting for it."""
    uvicorn.config.HTTP_PROTOCOLS["auto"] = type("LimitedConnection", (Connection,), {"limiter": limiter})  # type: ignore[assignment] # uvicorn imports a name, and takes a class as it is
