"""What BigQuery answers: a server on the loopback for its own client."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

LOCATION = "europe-west3"
"""Where its data set is; jobs are found only by who says so, as outside of the multi-regions US and EU."""
_REASONS = {404: ("notFound", "NOT_FOUND"), 409: ("duplicate", "ALREADY_EXISTS"), 503: ("backendError", "UNAVAILABLE")}


class BigQuery:
    """Tables and jobs in memory, in the form of BigQuery's REST API (https://cloud.google.com/bigquery/docs/reference/rest).

    Jobs do nothing, and have ended when they are first asked for.

    Args:
        jobs: the resources of the jobs that were started, by id, in their order.
        tables: those of tables, by id.
        failing: reason for which the next job of a kind, `load` or `query`, fails.
        unseen: number of the next questions for jobs that are answered as if there were none.
        away: whether every request is answered with 503.
    """

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.tables: dict[str, dict[str, Any]] = {}
        self.failing: dict[str, str] = {}
        self.unseen = 0
        self.away = False
        self.clock = 1_756_600_000_000
        self.requests: list[str] = []
        self.port = 0

    def started(self, kind: str) -> list[dict[str, Any]]:
        """Return the configurations of the jobs of a kind, `load` or `query`."""
        of_all = [job["configuration"] for job in self.jobs.values()]
        return [each[kind] for each in of_all if kind in each]

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Return status and body of the answer to a request."""
        place = urlsplit(path)
        self.requests.append(f"{method} {place.path}")
        found: tuple[int, dict[str, Any]] = (404, {})
        match method, *place.path.removeprefix("/bigquery/v2/projects/project/").split("/"):
            case ["POST", "", "token"]:
                found = 200, {"access_token": "for-tests", "expires_in": 3_599, "token_type": "Bearer"}
            case _ if self.away:
                found = 503, {}
            case ["POST", "datasets", "data", "tables"]:
                found = self._make_table(body)
            case ["GET", "datasets", "data", "tables", name] if name in self.tables:
                found = 200, self.tables[name]
            case ["POST", "jobs"]:
                found = self._start(body)
            case ["GET", "jobs", name] if name in self.jobs and f"location={LOCATION}" in place.query:
                found = self._ended(self.jobs[name])
        return found

    def _make_table(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        name = body["tableReference"]["tableId"]
        if name in self.tables:
            return 409, {}
        self.clock += 1
        self.tables[name] = body | {
            "kind": "bigquery#table", "id": f"project:data.{name}", "type": "TABLE",
            "location": LOCATION, "creationTime": str(self.clock),
        }  # fmt: skip
        return 200, self.tables[name]

    def _start(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        job_id = body["jobReference"]["jobId"]
        if job_id in self.jobs:
            return 409, {}
        [kind] = body["configuration"].keys() & {"load", "query"}
        reference = body["jobReference"] | {"projectId": "project", "location": LOCATION}
        self.jobs[job_id] = {
            "kind": "bigquery#job", "id": f"project:{LOCATION}.{job_id}", "jobReference": reference,
            "configuration": body["configuration"] | {"jobType": kind.upper()}, "status": {"state": "RUNNING"},
            "statistics": {"creationTime": str(self.clock)}, "_fails": self.failing.pop(kind, None),
        }  # fmt: skip
        return 200, self.jobs[job_id]

    def _ended(self, job: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if self.unseen:
            self.unseen -= 1
            return 404, {}
        job["status"] = {"state": "DONE"}
        if job["_fails"]:
            error = {"reason": job["_fails"], "message": "Provided schema does not match"}
            job["status"] |= {"errorResult": error, "errors": [error]}
        return 200, job


@contextmanager
def serving(bigquery: BigQuery) -> Iterator[None]:
    """Answer requests on the loopback while the block runs; `port` is where."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            given = self.rfile.read(length)
            body = json.loads(given) if given.startswith(b"{") else {}
            status, content = bigquery.answer(self.command, self.path, body)
            if status >= 400:
                reason, name = _REASONS[status]
                errors = [{"message": name, "domain": "global", "reason": reason}]
                content = {"error": {"code": status, "message": name, "status": name, "errors": errors}}
            text = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json; charset=UTF-8")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = _answer  # noqa: N815 - the names that the base class looks for

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        bigquery.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def credentials(folder: Path, port: int) -> Path:
    """Write the key of a service account, made for this test, whose tokens come from the server at a port."""
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    account = {
        "type": "service_account", "project_id": "project", "private_key_id": "1", "private_key": pem,
        "client_email": "tests@project.iam.gserviceaccount.com", "client_id": "1",
        "token_uri": f"http://127.0.0.1:{port}/token",
    }  # fmt: skip
    file = folder / "account.json"
    file.write_text(json.dumps(account))
    return file
