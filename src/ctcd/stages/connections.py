"""What the stages use, according to the settings: the instance, the feature store and the model registry."""

from typing import TYPE_CHECKING

from ctcd.errors import GateRefused, NotFound
from ctcd.settings import Environment, Settings
from ctcd.urls import masked

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from ctcd.contract.instance import Instance
    from ctcd.registry.versions import Registry


def instance(settings: Settings) -> "Instance":
    """Return the contract, payload and policies in force.

    Raises:
        UsageError: the configured folder holds no instance.
    """
    from ctcd.contract.instance import load_instance

    return load_instance(settings.contracts)


def require_confirmed(settings: Settings) -> None:
    """Check, in production, that nothing in the contract is a draft: a version may have been judged elsewhere.

    Raises:
        GateRefused: something in it is a draft.
    """
    drafts = instance(settings).contract.drafts
    if drafts and settings.environment is Environment.PRODUCTION:
        (name, what), *_ = drafts
        raise GateRefused(
            f"drafts in the contract: {len(drafts)}, the first: {name}, {what}",
            where=str(settings.contracts),
            hint="confirm them: ctcd contract check lists them",
        )


def open_store(settings: Settings) -> "Engine":
    """Connect to the feature store.

    A SQLite file is migrated automatically; the schema of a server is changed by `migrate` only.

    Raises:
        Unreachable: the store does not answer.
        NotFound: the server's schema is not up to date.
    """
    from ctcd.store import engine, migrations

    versions = instance(settings).migrations
    store = engine.connect(settings.store_url)
    if migrations.pending(store, versions):
        if store.dialect.name != "sqlite":
            raise NotFound("the schema is not up to date", where=masked(settings.store_url), hint="run: ctcd migrate")
        migrations.upgrade(settings.store_url, versions)
    return store


def open_registry(settings: Settings) -> "Registry":
    """Connect to the model registry.

    Raises:
        Unreachable: it does not answer.
    """
    from ctcd.registry.versions import Registry

    return Registry.open(settings, instance(settings).contract)
