#!/bin/sh
# Makes sure that a PostgreSQL server is installed for Airflow's metadata in `make airflow` and its test. Never starts a service.
set -eu

if [ -n "${AIRFLOW__DATABASE__SQL_ALCHEMY_CONN:-}" ]; then
    echo "PostgreSQL: Airflow uses the database in AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
    exit 0
fi
# Debian installs each version's programs in a folder of its own, which is on no PATH.
for folder in /usr/lib/postgresql/*/bin; do
    PATH="$PATH:$folder"
done
if command -v postgres >/dev/null && command -v initdb >/dev/null; then
    printf 'PostgreSQL: '
    exec postgres --version
fi
"$(dirname "$0")/install-server.sh" PostgreSQL postgresql <<'HELP'
  other systems:     install the server package so that postgres and initdb are on the PATH
  existing server:   export AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=postgresql+psycopg2://user:password@host:5432/database
HELP
