"""The scripts that workflows call, run as a workflow runs them."""

import json
import os
import re
import runpy
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from load.service_levels import Finding
from load.targets import allowed

from ctcd.contract.instance import load_instance
from ctcd.errors import UsageError

ROOT = Path(__file__).parents[3]
SCRIPTS = ROOT / "scripts"


def run(script: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(  # noqa: S603 - the repository's own script
        [SCRIPTS / script] if script.endswith(".sh") else ["python3", SCRIPTS / script],
        env={"PATH": os.environ["PATH"], **variables}, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(("value", "ready"), [("set", "true"), ("", "false")])
def test_deployment_is_idle_until_every_variable_is_set(tmp_path: Path, value: str, ready: str) -> None:
    """One missing variable is enough; the summary names it."""
    outputs, summary = tmp_path / "outputs", tmp_path / "summary"
    summary.touch()
    done = run("configured.sh", NEEDED="ONE TWO", ONE="x", TWO=value, GITHUB_OUTPUT=str(outputs), GITHUB_STEP_SUMMARY=str(summary))  # fmt: skip
    assert done.returncode == 0
    assert outputs.read_text() == f"ready={ready}\n"
    assert ("TWO" in summary.read_text()) == (ready == "false")


@pytest.mark.parametrize("folder", ["contracts", "tests/instance"])
def test_the_slug_is_that_of_the_contract(folder: str) -> None:
    """The script reads from the lock what `Contract.slug` derives; the repository's instance is the default."""
    done = run("slug.sh", **({"CTCD_CONTRACTS": folder} if folder != "contracts" else {}))
    assert (done.returncode, done.stdout) == (0, f"{load_instance(ROOT / folder).contract.slug}\n"), done.stderr


def test_a_slug_without_an_instance_is_an_error(tmp_path: Path) -> None:
    """A missing lock fails the script and prints no name."""
    done = run("slug.sh", CTCD_CONTRACTS=str(tmp_path))
    assert (done.returncode != 0, done.stdout) == (True, "")


def test_a_tag_is_not_verified(tmp_path: Path) -> None:
    """An image that is named by a tag is refused before GitHub is asked: the tag may be moved before it is deployed."""
    (tmp_path / "gh").write_text('#!/bin/sh\ntouch "$0.asked"\n')
    (tmp_path / "gh").chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    assert run("verify-image.sh", PATH=path, IMAGE="registry.example/api:v7", GITHUB_REPOSITORY="a/b").returncode == 2
    assert not (tmp_path / "gh.asked").exists()


def test_a_key_without_known_hosts_is_refused(tmp_path: Path) -> None:
    """Without known hosts any server could impersonate the host."""
    done = run("deploy-access.sh", HOME=str(tmp_path), DEPLOY_SSH_KEY="key")
    assert done.returncode == 2
    assert "DEPLOY_KNOWN_HOSTS" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_key_is_private_and_unknown_hosts_are_refused(tmp_path: Path) -> None:
    """The key is readable by its owner only, and SSH checks the host strictly."""
    done = run("deploy-access.sh", HOME=str(tmp_path), DEPLOY_SSH_KEY="key", DEPLOY_KNOWN_HOSTS="host ssh-ed25519 AAAA")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / ".ssh" / "id_deploy").stat().st_mode & 0o077 == 0
    assert "StrictHostKeyChecking yes" in (tmp_path / ".ssh" / "config").read_text()


class Issues(BaseHTTPRequestHandler):
    """The part of GitHub's API that the report uses."""

    open_issues: list[dict[str, Any]]
    received: list[tuple[str, dict[str, Any]]]
    refused = False

    def do_GET(self) -> None:
        assert "labels=load-regression" in self.path
        self._answer(self.open_issues)

    def do_POST(self) -> None:
        assert self.headers["Authorization"] == "Bearer token"
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.received.append((self.path, body))
        if self.path.endswith("/issues"):
            self.open_issues.append({"number": 7})
        self._answer({"number": 7})

    def _answer(self, body: Any) -> None:
        text = json.dumps(body).encode()
        self.send_response(403 if self.refused else 200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name that its base has
        """Log nothing."""


@pytest.fixture
def github() -> Iterator[tuple[str, type[Issues]]]:
    handler = type("Fresh", (Issues,), {"open_issues": [], "received": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", handler
    server.shutdown()
    thread.join()
    server.server_close()


def report(url: str, *, run_url: str) -> "subprocess.CompletedProcess[str]":
    given = {"GITHUB_API_URL": url, "GITHUB_REPOSITORY": "a/b", "GITHUB_TOKEN": "token", "SUMMARY": "a table"}
    return run("report_regression.py", **given, RUN_URL=run_url)


@pytest.mark.slow
def test_a_repeated_regression_is_one_issue(github: tuple[str, type[Issues]]) -> None:
    """The first report opens an issue, later ones comment on it."""
    url, api = github
    printed = [report(url, run_url=each).stdout for each in ("first", "second")]
    assert printed == ["opened issue 7\n", "added to issue 7\n"]
    assert [path for path, _ in api.received] == ["/repos/a/b/issues", "/repos/a/b/issues/7/comments"]
    assert [body["body"] for _, body in api.received] == ["a table\n\nRun: first", "a table\n\nRun: second"]


@pytest.mark.slow
def test_a_report_that_github_refuses_is_an_error(github: tuple[str, type[Issues]]) -> None:
    """The script fails with one line that names the URL and the response."""
    url, api = github
    api.refused = True
    done = report(url, run_url="first")
    assert done.returncode == 1
    assert done.stderr == f"error: {url}: HTTP Error 403: Forbidden\n"


@pytest.mark.slow
def test_a_finding_starts_the_workflow_that_trains(github: tuple[str, type[Issues]]) -> None:
    """By an event that `train` waits for; a refusal is one line and an error, so that the finding is not marked."""
    url, api = github
    given = {"GITHUB_API_URL": url, "GITHUB_REPOSITORY": "a/b", "GITHUB_TOKEN": "token"}
    done = run("start_training.py", **given)
    assert (done.returncode, done.stdout) == (0, "a training was started\n")
    [(path, body)] = api.received
    train = yaml.safe_load((ROOT / ".github" / "workflows" / "train.yml").read_text())
    assert path == "/repos/a/b/dispatches"
    assert body["event_type"] in train[True]["repository_dispatch"]["types"]  # YAML 1.1 reads the key `on` as true
    api.refused = True
    done = run("start_training.py", **given)
    assert (done.returncode, done.stderr) == (1, f"error: {url}: HTTP Error 403: Forbidden\n")


def test_a_load_report_becomes_a_table(tmp_path: Path) -> None:
    """Each limit is shown with the measurement; one that is not met stands out."""
    reports = tmp_path / "build" / "reports" / "load"
    reports.mkdir(parents=True)
    findings = [
        Finding(rule="p95_ms", value=31.5, limit=25.0, better="lower"),
        Finding(rule="min_requests_per_second", value=40.0, limit=25.0, better="higher"),
    ]
    verdict = {"passed": False, "findings": [each.model_dump() for each in findings]}
    (reports / "reference.json").write_text(json.dumps(verdict))
    (reports / "baseline-reference-0123.json").write_text("{}")
    done = subprocess.run(  # noqa: S603 - the repository's own script
        ["python3", SCRIPTS / "load_summary.py"],  # noqa: S607 - any Python will do
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "reference: FAILED" in done.stdout
    assert "| p95_ms | 31.5 | at most 25 | **NOT MET** |" in done.stdout
    assert "| min_requests_per_second | 40 | at least 25 | met |" in done.stdout


@pytest.mark.parametrize(
    ("url", "hosts", "rule"),
    [
        ("https://attacker.example", "", "host 'attacker.example' is not one of LOAD_HOSTS (empty)"),
        ("https://attacker.example", "api.example,", "is not one of LOAD_HOSTS"),
        ("https://api.example.attacker.example", "api.example", "is not one of LOAD_HOSTS"),
        ("https://api.example@attacker.example", "api.example", "host 'attacker.example' is not one of LOAD_HOSTS"),
        ("https://api.example:x@attacker.example/", "api.example", "host 'attacker.example' is not one of LOAD_HOSTS"),
        ("//", "", "host '' is not one of LOAD_HOSTS"),
        ("http://api.example", "api.example", "http: the API key is sent over https only"),
        ("ftp://127.0.0.1", "127.0.0.1", "ftp: the API key is sent over https only"),
        ("https://api.example:port", "api.example", "not a URL"),
        ("https://[api.example", "api.example", "not a URL"),
    ],
)
def test_a_url_of_another_host_is_not_load_tested(url: str, hosts: str, rule: str) -> None:
    """A URL whose host is not in LOAD_HOSTS, or that is not HTTPS, is refused."""
    with pytest.raises(UsageError, match=re.escape(rule)):
        allowed(url, hosts)


def test_the_load_test_sends_its_key_to_no_other_host(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The script of the workflow refuses such a URL before it sends anything."""
    given = {"LOAD_URL": "https://attacker.example", "LOAD_HOSTS": "api.example", "LOAD_KEY": "k" * 40}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(SCRIPTS)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPTS / "load_release.py"), run_name="__main__")
    assert ended.value.code == 2
    assert "host 'attacker.example' is not one of LOAD_HOSTS (api.example)" in " ".join(capsys.readouterr().err.split())


def test_a_setting_that_cannot_be_used_ends_a_script_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A script ends as a command does: one line that names the setting, and exit code 2."""
    monkeypatch.setenv("CTCD_SEED", "x")
    monkeypatch.setattr("sys.argv", ["images.py"])
    monkeypatch.syspath_prepend(SCRIPTS)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPTS / "images.py"), run_name="__main__")
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: environment: CTCD_SEED: ")


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://API.example/path?query", "https://api.example"),
        ("https://api.example:8443", "https://api.example:8443"),
        ("http://127.0.0.1:3000/", "http://127.0.0.1:3000"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        (r"https://attacker.example\@api.example", "https://api.example"),
    ],
)
def test_only_the_origin_of_an_allowed_url_is_used(url: str, origin: str) -> None:
    """The URL is written anew, so that no other parser can find another host in it."""
    assert allowed(url, "Api.example, 127.0.0.1, ::1") == origin


def make(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(  # noqa: S603 - the repository's own Makefile
        ["make", "--no-print-directory", *arguments],  # noqa: S607 - any make will do
        env={"PATH": os.environ["PATH"], **variables}, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_persons_pip_settings_do_not_install_outside_the_environment() -> None:
    """`PIP_USER=1` and the like have no effect on the recipes; a mirror does."""
    probe = '--eval=probe:;@echo "$${PIP_USER} $${PIP_TARGET-no} $${PIP_PREFIX-no} $${PIP_ROOT-no} $${PIP_INDEX_URL}"'
    given = {"PIP_USER": "1", "PIP_TARGET": "x", "PIP_PREFIX": "x", "PIP_ROOT": "x", "PIP_INDEX_URL": "mirror"}
    assert make(probe, "probe", **given).stdout == "0 no no no mirror\n"


@pytest.mark.parametrize(
    ("target", "variable", "program"),
    [("demo", "DATA", "ctcd"), ("bench", "DATA", "python"), ("images", "BENTO", "python")],
)
def test_a_path_may_contain_blanks_quotes_and_dollars(tmp_path: Path, target: str, variable: str, program: str) -> None:
    """A path given to make reaches the command as it was written."""
    (tmp_path / program).write_text('#!/bin/sh\nfor each; do last=$each; done; printf %s "$last"\n')
    (tmp_path / program).chmod(0o755)
    path = """a folder/'quoted' "twice" $HOME"""
    done = make(target, "--assume-old=.venv/.runtime", "--assume-old=.venv/.dev", f"BIN={tmp_path}", **{variable: path})
    assert (done.returncode, done.stdout) == (0, path), done.stderr


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("no repository", "not a git repository"),
        ("another owner", "detected dubious ownership"),
        ("hooksPath", "core.hooksPath is elsewhere"),
    ],
)
def test_an_environment_is_ready_where_hooks_cannot_be_installed(tmp_path: Path, case: str, reason: str) -> None:
    """The reason is printed, and it is no failure: a ZIP file has no repository, and some people have hooks elsewhere."""
    environment = {"PATH": os.environ["PATH"], "GIT_CEILING_DIRECTORIES": str(tmp_path.parent), "HOME": str(tmp_path)}
    if case != "no repository":
        subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)  # noqa: S607 - any git will do
    if case == "another owner":
        environment["GIT_TEST_ASSUME_DIFFERENT_OWNER"] = "1"
    if case == "hooksPath":
        subprocess.run(["git", "config", "core.hooksPath", "elsewhere"], cwd=tmp_path, check=True)  # noqa: S607 - as above
    done = subprocess.run(  # noqa: S603 - the repository's own script
        [SCRIPTS / "install-hooks.sh"], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, reason in done.stdout) == (0, True), done


@pytest.mark.parametrize("code", [0, 3])
def test_the_hooks_are_installed_in_a_repository(tmp_path: Path, code: int) -> None:
    """By the real git's configuration; a pre-commit that fails is a failure, and says why: on standard output."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)  # noqa: S607 - any git will do
    program = tmp_path / ".venv" / "bin" / "pre-commit"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\necho "$*" >called\necho "because of $0"\nexit {code}\n')
    program.chmod(0o755)
    done = subprocess.run(  # noqa: S603 - the repository's own script
        [SCRIPTS / "install-hooks.sh"], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (code, "because of .venv/bin/pre-commit\n")
    assert (tmp_path / "called").read_text() == "install --install-hooks\n"


def test_scripts_keep_their_line_ends_in_a_clone_with_autocrlf(tmp_path: Path) -> None:
    """A clone that converts line ends would have scripts that no shell can run."""
    for file in (".gitattributes", "scripts/slug.sh"):
        (tmp_path / Path(file).name).write_bytes((ROOT / file).read_bytes())
    git = ["git", "-c", "user.name=x", "-c", "user.email=x", "-c", "core.autocrlf=true"]
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message=x"]):
        subprocess.run([*git, *command], cwd=tmp_path, check=True, capture_output=True)  # noqa: S603 - fixed commands
    (tmp_path / "slug.sh").unlink()
    subprocess.run([*git, "checkout", "--quiet", "."], cwd=tmp_path, check=True)  # noqa: S603 - a fixed command
    assert b"\r" not in (tmp_path / "slug.sh").read_bytes()
