#!/usr/bin/env bash
# Initialises the data folder if it is empty, then runs the server.
set -euo pipefail
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  # An interrupted start leaves no valid database: PG_VERSION, which marks one, is moved last.
  find "$PGDATA" -mindepth 1 -delete
  fresh="$PGDATA/.fresh"
  initdb --pgdata="$fresh" --username=postgres --encoding=UTF8 --auth-local=trust --auth-host=scram-sha-256 \
    --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") >/dev/null
  echo 'host all all all scram-sha-256' >>"$fresh/pg_hba.conf"
  find "$fresh" -mindepth 1 -maxdepth 1 ! -name PG_VERSION -exec mv --target-directory="$PGDATA" {} +
  mv "$fresh/PG_VERSION" "$PGDATA/"
  rmdir "$fresh"
fi
exec "$@" -c listen_addresses='*'
