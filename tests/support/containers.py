"""Runs the images of an instance, hardened as in production, and inspects their contents."""

import json
import os
import re
import subprocess
import tarfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO, Any

from support.marks import SECRETS

from ctcd.contract.instance import load_instance

OWN = load_instance(Path(os.environ.get("IMAGE_CONTRACTS") or Path(__file__).parents[2] / "contracts"))
"""The instance that the images were built for: the repository's own, not the tests'."""
OWN_EXAMPLE = {column.name: column.example for column in (OWN.contract.group, *OWN.contract.model_inputs)}
"""A row that the api image answers."""
TAG = os.environ.get("IMAGE_TAG", "local")
API, CT, AIRFLOW = (f"{OWN.contract.slug}-{name}:{TAG}" for name in ("api", "ct", "airflow"))
HARDENED = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--tmpfs=/tmp")
"""Options that every image must run with."""
HEALTHY_SECONDS = 180.0
LABELS = ("image.revision", "image.version", "image.title", "image.licenses")
"""OCI labels that every image must have."""
_OWN_CONTAINER = re.compile(r"/containers/([0-9a-f]{64})/\S+ /etc/")
_POLL_SECONDS = 0.25
_SMALL = 65_536
_COMPILER = re.compile(r"(^|-)(gcc|g\+\+|cc|c\+\+|clang|cpp|ld|make|rustc|tcc)(-[\d.]+)?$")
_CACHE = re.compile(r"(^|/)(\.cache|var/cache/uv)/")
_SECRET_NAME = re.compile(r"^(\.env(\..+)?|\.netrc|\.pypirc|id_(rsa|dsa|ecdsa|ed25519)|.*\.kdbx|\.docker|login\.json)$")
_SECRET_TEXT = re.compile(
    rb"-----BEGIN [A-Z ]*PRIVATE KEY-----|AKIA[0-9A-Z]{16}|ghp_[A-Za-z0-9]{36}|" + "|".join(SECRETS).encode()
)
_SECRET_VARIABLE = re.compile(r"(PASSWORD|SECRET|TOKEN|API_KEYS?|CREDENTIALS)", re.IGNORECASE)
_FOREIGN = ("opt/packages/", "usr/lib/", "usr/share/")
"""Folders of locked packages and of Debian: keys in their test data are not secrets."""


def docker(*arguments: str, check: bool = True, seconds: float = 300) -> "subprocess.CompletedProcess[str]":
    """Run a command of Docker's client and wait for it."""
    done = subprocess.run(  # noqa: S603 - the tests' arguments
        ["docker", *arguments],  # noqa: S607 - whichever client the user has
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )
    assert not check or done.returncode == 0, f"docker {' '.join(arguments)}\n{done.stdout}{done.stderr}"
    return done


def volume_with(folder: Path) -> str:
    """Return the volume that a folder is in, as NAME:PATH; empty if the tests run on Docker's own machine.

    If the tests run in a container that uses the Docker of its host, Docker cannot mount the folders of that container.
    """
    own = _OWN_CONTAINER.search(Path("/proc/self/mountinfo").read_text())
    if not own:
        return ""
    mounts = json.loads(docker("inspect", own.group(1)).stdout)[0]["Mounts"]
    holding = [each for each in mounts if folder.resolve().is_relative_to(each["Destination"])]
    assert holding, f"{folder} is in no volume of the container that the tests run in"
    mount = max(holding, key=lambda each: len(each["Destination"]))
    return f"{mount.get('Name') or mount['Source']}:{mount['Destination']}"


@dataclass(frozen=True)
class Container:
    """A container, running or stopped.

    Args:
        name: id of the container.
    """

    name: str

    def inspect(self) -> Any:
        """Return what `docker inspect` reports."""
        return json.loads(docker("inspect", self.name).stdout)[0]

    def logs(self) -> str:
        """Return its output so far."""
        done = docker("logs", self.name)
        return done.stdout + done.stderr

    def run(self, *command: str) -> str:
        """Run a command in it and return the output."""
        return docker("exec", self.name, *command).stdout

    def port(self, inner: int) -> int:
        """Return the port of loopback that a port of the container is published on."""
        return int(docker("port", self.name, str(inner)).stdout.splitlines()[0].rpartition(":")[2])

    def wait_until_healthy(self) -> None:
        """Wait until its health check passes."""
        deadline = time.monotonic() + HEALTHY_SECONDS
        while time.monotonic() < deadline:
            state = self.inspect()["State"]
            if state["Health"]["Status"] == "healthy":
                return
            assert state["Running"], self.logs()
            time.sleep(_POLL_SECONDS)
        raise AssertionError(f"not healthy: {self.inspect()['State']['Health']}\n{self.logs()}")

    def stop(self, seconds: float) -> tuple[int, float]:
        """Send SIGTERM; return exit code and duration in seconds. After `seconds` it is killed: exit code 137."""
        began = time.monotonic()
        docker("stop", f"--time={seconds:.0f}", self.name, seconds=seconds + 60)
        return int(self.inspect()["State"]["ExitCode"]), time.monotonic() - began


@contextmanager
def started(image: str, *command: str, options: Sequence[str] = (), hardened: bool = True) -> Iterator[Container]:
    """Run a container during the block; afterwards it and its anonymous volumes are removed."""
    flags = HARDENED if hardened else ()
    container = Container(docker("run", "--detach", *flags, *options, image, *command).stdout.strip())
    try:
        yield container
    finally:
        docker("rm", "--force", "--volumes", container.name)


def variables(values: Mapping[str, str]) -> list[str]:
    """Return the options of `docker run` that set environment variables."""
    return [f"--env={name}={value}" for name, value in values.items()]


def configuration(image: str) -> dict[str, Any]:
    """Return the configuration of an image as `docker image inspect` reports it."""
    found: dict[str, Any] = json.loads(docker("image", "inspect", image).stdout)[0]["Config"]
    return found


def configuration_problems(config: Mapping[str, Any], labels: Iterable[str] = ()) -> list[str]:
    """Return what is wrong with the configuration of an image; `labels` are required besides those of OCI."""
    problems = []
    user = (config.get("User") or "0").partition(":")[0]
    if not user.isdigit():
        problems.append(f"its user {user!r} is not a number")
    elif int(user) == 0:
        problems.append("it runs as root")
    if (config.get("Healthcheck") or {}).get("Test", ["NONE"])[0] == "NONE":
        problems.append("it has no health check")
    start = [*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())]
    if not start or start[:2] == ["/bin/sh", "-c"] or start[:2] == ["/bin/bash", "-c"]:
        problems.append("a shell is its first process, which would not forward SIGTERM")
    present = config.get("Labels") or {}
    problems += [
        f"label {label} is missing"
        for label in (*(f"org.opencontainers.{label}" for label in LABELS), *labels)
        if present.get(label, "unknown") in ("", "unknown")
    ]
    for entry in config.get("Env") or ():
        name, _, value = entry.partition("=")
        if value and _SECRET_VARIABLE.search(name):
            problems.append(f"variable {name} holds a secret")
    return problems


def content_problems(image: str) -> list[str]:
    """Return what should not be in an image, in any layer: what a later layer deletes is still in the image."""
    with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as process:  # noqa: S603, S607 - the tests' arguments, whichever client the user has
        assert process.stdout is not None
        found = sorted(set(archive_problems(process.stdout)))
    assert process.returncode == 0
    return found


def archive_problems(stream: IO[bytes]) -> Iterator[str]:
    """Yield what should not be in an image that `docker save` has written, in its layers or in its configuration."""
    # Layers are archives within the archive: `<id>/layer.tar` or, in newer versions, blobs named by their digest.
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            blob = archive.extractfile(member) if member.isfile() else None
            if blob is None:
                continue
            small = blob.read() if member.size <= _SMALL else b""
            try:
                with tarfile.open(fileobj=BytesIO(small) if small else blob, mode="r|*") as layer:
                    yield from _layer_problems(layer)
            except tarfile.ReadError:
                # A document, such as the configuration with the image's history.
                if _SECRET_TEXT.search(small):
                    yield f"secret in the configuration, {member.name}"


def _layer_problems(layer: tarfile.TarFile) -> Iterator[str]:
    for member in layer:
        path = PurePosixPath("/", member.name).relative_to("/")
        text = str(path)
        foreign = text.startswith(_FOREIGN)
        if not member.isdir() and path.parent.name in ("bin", "sbin") and _COMPILER.search(path.name):
            yield f"compiler /{text}"
        if _CACHE.search(text) and member.isfile():
            yield f"cache /{text}"
        if not foreign and {".git", "tests"} & set(path.parts):
            yield f"not for production: /{text}"
        if not foreign and _SECRET_NAME.match(path.name):
            yield f"secret /{text}"
        if not foreign and member.isfile() and 0 < member.size <= _SMALL:
            body = layer.extractfile(member)
            if body is not None and _SECRET_TEXT.search(body.read()):
                yield f"secret within /{text}"
