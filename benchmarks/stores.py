"""What most benchmarks of the service need: a folder, and an empty feature store on a server of their own."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from support.mariadb import OwnServer, database, own_server

from ctcd.store.migrations import upgrade


@dataclass(frozen=True, kw_only=True)
class OwnStore:
    """A temporary folder, the URL of a migrated store, with its password, and the server that the store is on."""

    folder: Path
    url: str
    server: OwnServer


@contextmanager
def own_store(migrations: Path) -> Iterator[OwnStore]:
    """Give a new folder and a new store with the tables that these migrations make; both are deleted at the end."""
    with TemporaryDirectory(prefix="ctcd-bench-") as folder, own_server() as server, database(server.url) as store:
        url = store.render_as_string(hide_password=False)
        upgrade(url, migrations)
        yield OwnStore(folder=Path(folder), url=url, server=server)
