#!/usr/bin/env python3
"""Prepares Airflow's metadata database and login: run before its services start, and again after an upgrade.

Creates or migrates the tables, creates the pools of the DAGs, and writes the login of the user `admin`, whose password is in
AIRFLOW_ADMIN_PASSWORD, to the file that the simple auth manager reads. TRAINING_SLOTS says how many trials may run at the same
time.
"""

import json
import os
import sys
from pathlib import Path

from airflow.configuration import conf
from airflow.models.pool import Pool
from airflow.utils.db import initdb
from airflow.utils.session import create_session

from ctcd.airflow.pools import POOLS, TRAINING_POOL


def main() -> None:
    """Prepare database and login; idempotent."""
    slots, description = POOLS[TRAINING_POOL]
    given = os.environ.get("TRAINING_SLOTS", str(slots))
    if not given.isdecimal() or int(given) < 1:
        sys.exit(f"error: TRAINING_SLOTS: {given!r} is not a whole number from 1 on")
    pools = POOLS | {TRAINING_POOL: (int(given), description)}
    initdb()
    with create_session() as session:
        for name, (slots, description) in pools.items():
            Pool.create_or_update_pool(
                name, slots=slots, description=description, include_deferred=False, session=session
            )
    login = Path(conf.get_mandatory_value("core", "simple_auth_manager_passwords_file"))
    login.touch(mode=0o600)
    login.write_text(json.dumps({"admin": os.environ["AIRFLOW_ADMIN_PASSWORD"]}), encoding="utf-8")


if __name__ == "__main__":
    main()
