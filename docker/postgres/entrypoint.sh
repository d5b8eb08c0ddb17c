#!/usr/bin/env bash
# Makes the data folder when it is empty, runs the scripts of /docker-entrypoint-initdb.d, then becomes the server.
set -euo pipefail
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  # Made beside it and moved at the end: a folder that is there is whole.
  fresh="$PGDATA/.fresh"
  rm -rf "$fresh"
  initdb --pgdata="$fresh" --username=postgres --encoding=UTF8 --auth-local=trust --auth-host=scram-sha-256 \
    --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") >/dev/null
  echo 'host all all all scram-sha-256' >>"$fresh/pg_hba.conf"
  pg_ctl --pgdata="$fresh" --options="-c listen_addresses=''" --wait --silent start
  for script in /docker-entrypoint-initdb.d/*.sh; do
    [ -e "$script" ] && bash "$script"
  done
  pg_ctl --pgdata="$fresh" --mode=fast --wait --silent stop
  find "$fresh" -mindepth 1 -maxdepth 1 ! -name PG_VERSION -exec mv --target-directory="$PGDATA" {} +
  mv "$fresh/PG_VERSION" "$PGDATA/" && rmdir "$fresh"
fi
exec "$@" -c listen_addresses='*'
