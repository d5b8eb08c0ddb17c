"""A stand-in for the API server of a Kubernetes cluster, for what the provider's client asks of it over HTTP.

There is no cluster where these tests run. All of our code, the provider's operator and the Kubernetes client are real; what
this stand-in cannot show is whether a real server, its scheduler and its kubelet behave as it does.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

CONTAINER = "stage"


def _status(phase: str, **state: Any) -> dict[str, Any]:
    container = {"name": CONTAINER, "state": state, "image": "", "imageID": "", "ready": False, "restartCount": 0}
    return {"phase": phase, "containerStatuses": [container]}


def ended(code: int) -> dict[str, Any]:
    """Return the status of a pod whose container ended with an exit code."""
    return _status(
        "Failed" if code else "Succeeded", terminated={"exitCode": code, "finishedAt": "2099-01-01T00:00:00Z"}
    )


PENDING = _status("Pending", waiting={"reason": "ContainerCreating"})
RUNNING = _status("Running", running={})


@dataclass
class Cluster:
    """What happens to the one pod of a cluster, and what was asked of the API.

    Args:
        logs: what each connection that follows the log is sent; after the last one the pod has ended.
        end: the pod's status then.
        pending: looks at the pod before it runs.
        refused: status and message with which creations of a kind of object are refused.
        hangs: called once the log is followed; the connection then stays open until the pod is deleted.
    """

    logs: list[str] = field(default_factory=lambda: [""])
    end: dict[str, Any] = field(default_factory=lambda: ended(0))
    pending: int = 1
    refused: dict[str, tuple[int, str]] = field(default_factory=dict)
    hangs: Callable[[], None] | None = None

    requests: list[str] = field(default_factory=list)
    created: dict[str, dict[str, Any]] = field(default_factory=dict)
    deleted: threading.Event = field(default_factory=threading.Event)
    followed: int = 0

    def pod(self) -> dict[str, Any]:
        """Return the pod as it is now."""
        self.pending -= 1
        status = PENDING if self.pending >= 0 else RUNNING
        if self.followed >= len(self.logs):
            status = self.end
        return self.created["pods"] | {"status": status}


class _Handler(BaseHTTPRequestHandler):
    cluster: Cluster
    protocol_version = "HTTP/1.1"

    def _answer(self, document: dict[str, Any], status: int = 200) -> None:
        self._send(json.dumps(document).encode(), "application/json", status)

    def _send(self, body: bytes, kind: str, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        cluster, url = self.cluster, urlsplit(self.path)
        cluster.requests.append(f"GET {url.path}")
        match url.path.split("/")[5:]:
            case [kind] if kind in ("events", "pods"):
                items = [cluster.pod()] if kind == "pods" and cluster.created else []
                self._answer({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items})
            case ["pods", _] if cluster.deleted.is_set():
                self._answer({"kind": "Status", "message": "pod not found"}, 404)
            case ["pods", _]:
                self._answer(cluster.pod())
            case ["pods", _, "log"]:
                self._log("follow" in parse_qs(url.query), "timestamps" in parse_qs(url.query))

    def _log(self, follow: bool, timestamps: bool) -> None:
        cluster = self.cluster
        text = cluster.logs[min(cluster.followed, len(cluster.logs) - 1)]
        if timestamps:
            lines = [f"2026-01-01T00:00:{number:02}.000000000Z {line}" for number, line in enumerate(text.splitlines())]
            text = "".join(f"{line}\n" for line in lines)
        if follow and cluster.hangs:
            self.send_response(200)
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True
            self.wfile.write(text.encode())
            self.wfile.flush()
            cluster.hangs()
            cluster.deleted.wait(60)
            return
        self._send(text.encode(), "text/plain")
        cluster.followed += follow

    def do_POST(self) -> None:
        cluster, kind = self.cluster, self.path.rpartition("/")[2]
        cluster.requests.append(f"POST {self.path}")
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if kind in cluster.refused:
            status, message = cluster.refused[kind]
            self._answer({"kind": "Status", "message": message}, status)
            return
        namespace = self.path.split("/")[4]
        body["metadata"] |= {"uid": "0-1-2", "namespace": namespace}
        cluster.created[kind] = body
        self._answer(body, 201)

    def do_PATCH(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(self.cluster.pod())

    def do_DELETE(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.cluster.requests.append(f"DELETE {self.path}")
        self.cluster.deleted.set()
        self._answer({"kind": "Status", "status": "Success"})

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(cluster: Cluster, folder: Path) -> Iterator[Path]:
    """Serve the API on loopback; give the kubeconfig file, written into the folder, that leads to it."""
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"cluster": cluster})) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        config = {
            "current-context": "here",
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "here"}}],
            "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
            "users": [{"name": "here", "user": {}}],
        }
        path = folder / "kubeconfig.json"
        path.write_text(json.dumps(config))
        try:
            yield path
        finally:
            cluster.deleted.set()
            server.shutdown()
            thread.join()
