"""The stage that writes the report site."""

from pathlib import Path
from typing import TYPE_CHECKING

from ctcd.settings import Settings
from ctcd.stages.connections import instance, open_registry, open_store

if TYPE_CHECKING:
    from ctcd.monitoring.site import SiteReport


def write_site(settings: Settings, into: Path | None, *, load: Path) -> "SiteReport":
    """Write the report site, by default into the folder of reports; `load` has the reports of load tests."""
    from ctcd.monitoring.site import write_site

    return write_site(
        open_store(settings),
        open_registry(settings),
        instance(settings).contract,
        # Not resolved: the home may be a link to a disk that is not mounted.
        reports=settings.home.absolute() / settings.reports.name,
        load=load,
        into=into or settings.reports / "site",
    )
