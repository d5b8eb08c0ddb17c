"""Connections are bounded in number and time, and everything that arrives on one is answered in one shape."""

import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import MappingProxyType
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import pytest
import uvicorn
from support.instance import INSTANCE
from support.load import Guarded, wait
from support.network import free_port
from support.serving import EXAMPLE, INFO, empty_store, pinned, save_model

from ctcd.model.scorer import Scorer
from ctcd.serving.app import make_service
from ctcd.serving.http.connection import HEAD_BYTES, PIECE_BYTES, Connection
from ctcd.serving.http.problems import MEDIA_TYPE, ProblemDetails
from ctcd.settings import Settings

pytestmark = pytest.mark.integration

SECONDS = 0.5
OFFER = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQCAAAAAAIAAAAA"}
BODY = json.dumps({"data": EXAMPLE}).encode()
ENDLESS = (b"X-A: " + b"x" * 2_000 + b"\r\n") * 10_000


@pytest.fixture
def limited(scorer: Scorer, tmp_path: Any) -> Settings:
    """Settings with limits that a test reaches."""
    model = save_model(scorer, tmp_path / "model")
    limits = {"header_seconds": SECONDS, "max_connections": 12, "max_connections_per_address": 4}
    return empty_store(pinned(tmp_path, model, ship_in_process=False, port=free_port(), **limits))


@contextmanager
def listening(settings: Settings) -> Iterator[int]:
    """Run the service of this process under uvicorn, as BentoML's worker does; yield its port."""
    with patch("ctcd.serving.runtime.tune_interpreter"):
        app = make_service(settings, INSTANCE).to_asgi()
        server = uvicorn.Server(uvicorn.Config(app, port=settings.port, log_config=None, timeout_keep_alive=75))
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            wait(lambda: server.started)
            yield settings.port
        finally:
            server.should_exit = True
            thread.join()


def opened(port: int, address: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=20, source_address=(address, 0))


def received(client: socket.socket) -> bytes:
    """Return what arrives until the other side closes the connection."""
    content = b""
    try:
        while part := client.recv(65_536):
            content += part
    except ConnectionResetError:
        pass
    return content


def request(
    body: bytes = BODY, path: str = "/predict", method: str = "POST", headers: Mapping[str, str] = MappingProxyType({})
) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: example.test", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def answers(content: bytes) -> list[tuple[int, dict[str, str], bytes]]:
    """Return status, headers and body of each answer."""
    found = []
    while content:
        head, _, rest = content.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {line.partition(": ")[0].lower(): line.partition(": ")[2] for line in lines}
        length = int(headers["content-length"])
        found.append((int(first.split()[1]), headers, rest[:length]))
        content = rest[length:]
    return found


def exchange(port: int, *parts: bytes) -> list[tuple[int, dict[str, str], bytes]]:
    """Send some parts one after the other, and return the answers once the connection is closed."""
    with opened(port) as client:
        for part in parts:
            client.sendall(part)
            time.sleep(0.05)  # so that they arrive as several
        return answers(received(client))


def one_problem(found: list[tuple[int, dict[str, str], bytes]], status: int) -> None:
    """Check that the only answer is a problem with the marks of every answer."""
    [(given, headers, body)] = found
    assert (given, headers["content-type"], headers["connection"]) == (status, MEDIA_TYPE, "close")
    assert headers["x-request-id"]
    assert headers["x-model-version"] == INFO.version
    assert ProblemDetails.model_validate_json(body, strict=True).status == status


def counted(port: int, label: str, route: str = "other") -> float:
    [(_, _, page)] = exchange(port, request(b"", "/metrics", "GET", CLOSE))
    start = f'ctcd_requests_total{{model="machine_condition",route="{route}",status="{label}"}} '
    return sum(float(line.removeprefix(start)) for line in page.decode().splitlines() if line.startswith(start))


def connections(port: int) -> int:
    """Return the number of open connections, the one that asks included."""
    [(_, _, page)] = exchange(port, request(b"", "/metrics", "GET", CLOSE))
    [line] = [line for line in page.decode().splitlines() if line.startswith("ctcd_connections{")]
    return int(float(line.partition(" ")[2]))


CLOSE = {"Connection": "close"}
LIVE = request(b"", "/livez", "GET")
LARGE = b" " * 200_000


@pytest.mark.parametrize(
    "sent",
    [b"", b"POST /pre", b"POST /predict HTTP/1.1\r\nHost: a\r\nX-A: "],
    ids=["nothing", "half a line", "half a header"],
)
def test_a_connection_without_a_complete_head_is_closed_in_time(
    limited: Settings, sent: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is answered with 408, counted, and noted in the log; the service answers others meanwhile."""
    with listening(limited) as port:
        with opened(port) as silent:
            silent.sendall(sent)
            assert exchange(port, request(headers=CLOSE))[0][0] == 200
            one_problem(answers(received(silent)), 408)
        assert counted(port, "408") == 1
    assert '"route":"other","status":408' in capfd.readouterr().out


def test_a_head_that_arrives_byte_by_byte_has_one_time_limit(limited: Settings) -> None:
    """Sending a little now and then does not keep a connection open."""
    with listening(limited) as port, opened(port) as slow:
        for byte in request() * 100:
            try:
                slow.sendall(bytes([byte]))
            except ConnectionError:
                break
            time.sleep(SECONDS / 10)
        else:
            pytest.fail("the connection stayed open")


def test_the_second_head_of_a_connection_has_a_time_limit_too(limited: Settings) -> None:
    """Headers of a second request have to arrive in time; a connection that is idle between two requests stays open."""
    with listening(limited) as port:
        found = exchange(port, request(), request()[:-20].partition(b"Content-Length")[0])
        assert [status for status, _, _ in found] == [200, 408]
        with opened(port) as idle:
            idle.sendall(request())
            time.sleep(3 * SECONDS)
            idle.sendall(request(headers=CLOSE))
            assert [status for status, _, _ in answers(received(idle))] == [200, 200]


@contextmanager
def answering_slowly() -> Iterator[threading.Event]:
    """Let no request be answered until the event is set."""
    released = threading.Event()
    score = Scorer.predict

    def predict(scorer: Scorer, rows: Any) -> Any:
        assert released.wait(60)
        return score(scorer, rows)

    with patch.object(Scorer, "predict", predict):
        try:
            yield released
        finally:
            released.set()


def test_a_head_that_begins_before_the_answer_has_a_time_limit_after_it(limited: Settings) -> None:
    """However long the answer takes, the rest of the head has as much time as any, and is read when it comes."""
    for rest, statuses in ((b"", [200, 408]), (b"e.test\r\nConnection: close\r\n\r\n", [200, 200])):
        with listening(limited) as port, answering_slowly() as released, opened(port) as client:
            client.sendall(request())
            time.sleep(0.1)  # so that they arrive as several
            client.sendall(b"GET /livez HTTP/1.1\r\nHost: exampl")
            time.sleep(2 * SECONDS)
            released.set()
            client.sendall(rest)
            assert [status for status, _, _ in answers(received(client))] == statuses


@pytest.mark.parametrize(
    "before",
    [(request(), b""), (b"", request()), (b"", request(b"", "/livez", "GET") + request())],
    ids=["apart", "together", "after two"],
)
def test_nothing_of_a_further_head_is_kept_while_a_request_is_answered(
    limited: Settings, before: tuple[bytes, bytes]
) -> None:
    """However it arrives, a head without end is read no further than a few times, and refused by its size afterwards."""
    with listening(limited) as port, answering_slowly() as released, opened(port) as client:
        client.sendall(before[0])
        time.sleep(0.1)
        client.sendall(before[1] + b"GET /livez HTTP/1.1\r\n")
        client.settimeout(5)
        with pytest.raises(TimeoutError):  # it fills the buffers of the system
            client.sendall(ENDLESS)
        client.settimeout(20)
        released.set()
        *answered, last = answers(received(client))
        assert {status for status, _, _ in answered} == {200}
        assert last[0] == 431


@contextmanager
def watching() -> Iterator[list[tuple[int, int]]]:
    """Note how many requests of a connection wait for their turn before and after more is read."""
    waiting: list[tuple[int, int]] = []
    data_received = Connection.data_received

    def read(connection: Connection, data: bytes) -> None:
        before = len(connection.pipeline)
        data_received(connection, data)
        waiting.append((before, len(connection.pipeline)))

    with patch.object(Connection, "data_received", read):
        yield waiting


@pytest.mark.parametrize(
    ("begun", "rest", "statuses"),
    [
        (b"", LIVE * 600 + request(b"", "/livez", "GET", CLOSE), [200] * 601),
        (b"GET /livez HTTP/1.1\r\n", ENDLESS[: HEAD_BYTES + 1], [431]),
        (request(LARGE, "/nothing").removesuffix(LARGE), LARGE + request(headers=CLOSE), [404, 200]),
    ],
    ids=["requests", "a head", "a body"],
)
def test_nothing_is_read_while_requests_wait_for_their_turn(
    limited: Settings, begun: bytes, rest: bytes, statuses: list[int]
) -> None:
    """However many are sent at once, and whatever follows, all are answered, and no more than a piece of it waits."""
    settings = limited.model_copy(update={"header_seconds": 60, "request_seconds": 60})
    with listening(settings) as port, watching() as waiting, answering_slowly() as released, opened(port) as client:
        client.sendall(request() + LIVE * 100 + begun)
        time.sleep(0.1)  # so that they arrive as several
        client.sendall(rest[:48_000])  # which the buffers of the system hold: it could be read at any time
        time.sleep(0.1)
        released.set()
        client.sendall(rest[48_000:])
        assert [status for status, _, _ in answers(received(client))] == [200] * 101 + statuses
    assert {before for before, _ in waiting} == {0}
    assert max(after for _, after in waiting) <= PIECE_BYTES // len(LIVE) + 1


@pytest.mark.parametrize(("path", "status"), [("/predict", 400), ("/nothing", 404)])
def test_headers_after_a_body_have_a_limit_of_size_too(limited: Settings, path: str, status: int) -> None:
    """A body in chunks may have some; without end, they end the request, or the connection if it was answered already."""
    head, _, body = request(path=path).partition(b"\r\n\r\n")
    chunked = head.replace(b"Content-Length: %d" % len(body), b"Transfer-Encoding: chunked") + b"\r\n\r\n"
    settings = limited.model_copy(update={"header_seconds": 60, "request_seconds": 60})
    with listening(settings) as port, opened(port) as client:
        client.sendall(chunked + b"%x\r\n%s\r\n0\r\nX-A: a\r\n" % (len(body), body))
        time.sleep(0.1)
        with pytest.raises(ConnectionError):
            client.sendall(ENDLESS)
        assert counted(port, str(status), "/predict" if path == "/predict" else "other") == 1
        parts = (chunked, b"%x\r\n%s\r\n0\r\nX-A: a\r\n" % (len(body), body), b"\r\n", request(headers=CLOSE))
        assert [each for each, _, _ in exchange(port, *parts)] == [200 if path == "/predict" else 404, 200]


def test_the_rest_of_a_refused_body_keeps_no_connection_open(limited: Settings) -> None:
    """A body that was refused before it had arrived has to arrive in time; then the connection may be used again."""
    with listening(limited) as port:
        large = request(b" " * 2_000_000, "/predict")
        with opened(port) as client:
            client.sendall(large[:1_000_000])
            time.sleep(0.1)
            [(status, _, _)] = answers(received(client))
        assert status == 413
        with opened(port) as client:
            client.sendall(large)
            time.sleep(3 * SECONDS)  # longer than a head may take
            client.sendall(request(headers=CLOSE))
            assert [status for status, _, _ in answers(received(client))] == [413, 200]


def test_there_are_at_most_so_many_connections_from_an_address_and_in_all(limited: Settings) -> None:
    """One more is answered with 503 at once; other addresses are served until all connections are taken."""
    settings = limited.model_copy(update={"header_seconds": 30})
    with listening(settings) as port, ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(opened(port))
        time.sleep(0.2)
        one_problem(exchange(port), 503)
        for address in ("127.0.0.2", "127.0.0.3"):
            for _ in range(4):
                last = stack.enter_context(opened(port, address))
        time.sleep(0.2)
        with opened(port, "127.0.0.4") as late:
            one_problem(answers(received(late)), 503)
        last.sendall(request(b"", "/metrics", "GET", CLOSE))
        [(_, _, page)] = answers(received(last))
        assert b'ctcd_connections{model="machine_condition"} 12.0' in page
        assert b'ctcd_requests_total{model="machine_condition",route="other",status="503"} 2.0' in page


def test_fewer_connections_are_accepted_than_files_may_be_open(
    limited: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """128 descriptors stay for everything else, and one address has at most half of the rest."""
    # This process shares its limit with the other tests.
    monkeypatch.setattr("resource.getrlimit", lambda _: (134, 134))
    settings = limited.model_copy(update={"header_seconds": 30, "max_connections": 1_000})
    with listening(settings) as port, ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(opened(port))
        time.sleep(0.2)
        one_problem(exchange(port), 503)


def test_connections_that_ended_are_not_counted(limited: Settings) -> None:
    """A connection stops counting once it ends, whether the client or the service closes it."""
    with listening(limited) as port:
        for _ in range(30):
            assert exchange(port, request(headers=CLOSE))[0][0] == 200
            opened(port).close()
        wait(lambda: exchange(port, request(headers=CLOSE))[0][0] == 200)


def test_a_client_that_does_not_read_its_answers_is_cut_off(limited: Settings) -> None:
    """Its connection is closed after the time limit, so that it holds no memory."""
    with listening(limited) as port, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.settimeout(60)
        client.connect(("127.0.0.1", port))
        # More than the buffers of the system hold.
        client.sendall(request(b"", "/static_content/swagger-ui-bundle.js", "GET") * 20)
        wait(lambda: connections(port) == 1)
        assert client.recv(10)  # it was about to be answered


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET http://[ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"POST /predict HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST /predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"CONNECT example.test:443 HTTP/1.1\r\nHost: example.test:443\r\n\r\n", 405),
        (b"GET / HTTP/1.1\r\nX-A: " + b"a" * (HEAD_BYTES * 5), 431),
    ],
)
def test_what_is_no_request_is_refused_like_all_else(limited: Settings, sent: bytes, status: int) -> None:
    """A problem with request id and model version, counted once."""
    with listening(limited) as port:
        one_problem(exchange(port, sent), status)
        assert counted(port, str(status)) + counted(port, str(status), "/predict") == 1


@pytest.mark.parametrize("before", [1, 3])
@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"more than the body has", 400),
        (b"GET http://[ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"POST /predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"CONNECT example.test:443 HTTP/1.1\r\nHost: example.test:443\r\n\r\n", 405),
    ],
    ids=["surplus", "URL", "body", "CONNECT"],
)
def test_what_is_no_request_takes_no_answer_from_the_requests_before_it(
    limited: Settings, before: int, sent: bytes, status: int
) -> None:
    """Each of them gets its own answer; then what follows is refused, and counted once."""
    with listening(limited) as port:
        *answered, last = exchange(port, request() * before + sent)
        assert [each for each, _, _ in answered] == [200] * before
        one_problem([last], status)
        assert counted(port, str(status)) + counted(port, str(status), "/predict") == 1
        assert [each for each, _, _ in exchange(port, request(headers=CLOSE) + sent)] == [200]


@pytest.mark.parametrize("offer", [OFFER, {"Connection": "upgrade", "Upgrade": "websocket"}], ids=["h2c", "websocket"])
@pytest.mark.parametrize("split", ["together", "apart", "chunked", "with the next", "with more"])
def test_an_offer_to_upgrade_is_ignored(limited: Settings, offer: dict[str, str], split: str) -> None:
    """The request is answered as without it, and so is the next one on the connection."""
    whole = request(headers=offer)
    head, _, body = whole.partition(b"\r\n\r\n")
    last = request(headers=CLOSE)
    chunked = head.replace(b"Content-Length: %d" % len(BODY), b"Transfer-Encoding: chunked")
    parts = {
        "together": (whole, last),
        "apart": (head[:40], head[40:] + b"\r\n\r\n", body[:10], body[10:], last),
        "chunked": (chunked + b"\r\n\r\n", b"%x\r\n%s\r\n" % (len(body), body), b"0\r\n\r\n", last),
        "with the next": (whole + last,),
        "with more": (whole + last + request(),),
    }[split]
    with listening(limited) as port:
        found = exchange(port, *parts)
        assert [status for status, _, _ in found] == [200, 200]
        assert [json.loads(body)["machine"] for _, _, body in found] == [EXAMPLE["machine"]] * 2


def test_any_number_of_offers_that_arrive_at_once_are_ignored(limited: Settings) -> None:
    """Each of the requests is answered, as without them."""
    offers = b"GET /livez HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n" * 1_000
    with listening(limited) as port:
        found = exchange(port, offers + request(headers=CLOSE))
        assert [status for status, _, _ in found] == [200] * 1_001


@pytest.mark.parametrize("more", [b"", request()], ids=["alone", "with more"])
def test_an_offer_that_wants_the_connection_closed_is_closed(limited: Settings, more: bytes) -> None:
    """An ignored offer to upgrade does not hide the token `close` of the same header, whatever follows it."""
    with listening(limited) as port:
        [(status, headers, _)] = exchange(port, request(headers=OFFER | {"Connection": "Upgrade, close"}) + more)
        assert (status, headers["connection"]) == (200, "close")


@pytest.mark.parametrize("path", ["/predict/", "/livez/", "/metrics/", "//example.test/"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_path_with_another_ending_is_not_redirected(limited: Settings, path: str, method: str) -> None:
    """404 as for any other path, so that no answer has what the client says that the host is."""
    with listening(limited) as port:
        [(status, headers, body)] = exchange(port, request(BODY, path, method, CLOSE))
    assert (status, headers["content-type"]) == (404, MEDIA_TYPE)
    assert b"example.test" not in repr(headers).encode() + body


def test_the_service_of_bentoml_has_these_connections(guarded: Guarded) -> None:
    """A real `bentoml serve` ignores an offer, and answers what is no request with a problem."""
    port = urlsplit(guarded.service.url).port
    assert port is not None
    key = {"X-API-Key": guarded.key}
    with opened(port) as client:
        client.sendall(request(headers=OFFER | key))
        client.sendall(request(headers=CLOSE | key))
        assert [status for status, _, _ in answers(received(client))] == [200, 200]
    one_problem(exchange(port, b"no HTTP\r\n\r\n"), 400)
