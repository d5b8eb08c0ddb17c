#!/usr/bin/env bash
# Adds the missing passwords and keys of docker/compose.yaml to .env, at random, readable by its owner only. Existing ones are
# kept: the databases were created with them.
set -euo pipefail
given=${1:-.env}
file=$(readlink -f "$given") || { echo "error: $given: its folder does not exist" >&2; exit 1; }
umask 077
touch "$file"
chmod 600 "$file"
hex() { od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'; }
fernet() { head -c 32 /dev/urandom | base64 | tr '+/' '-_'; }
# All or nothing: of a password that a full disk cuts short, the beginning would be kept.
new=$file.new
# One at a time: what another run does meanwhile would be lost, and with it the passwords of the databases.
(set -o noclobber && : >"$new") || {
  [[ ! -e $new ]] || echo "error: another run is at work; if there is none, delete $new" >&2
  exit 1
}
trap 'rm -f "$new"' EXIT
known=$(<"$file")
cp -p "$file" "$new"
# The last line may have no end.
printf '%s' "${known:+$known$'\n'}" >"$new"
missing() { [[ $'\n'$known != *$'\n'"$1="* ]]; }
# What fails within the arguments of `echo` stops nothing, and an empty password would be kept: so each is assigned first.
for name in FEATURE_STORE_PASSWORD MARIADB_ROOT_PASSWORD POSTGRES_PASSWORD AIRFLOW_DB_PASSWORD MLFLOW_DB_PASSWORD \
  AIRFLOW_ADMIN_PASSWORD AIRFLOW_SECRET_KEY AIRFLOW_JWT_SECRET REDIS_PASSWORD API_KEY METRICS_KEY GRAFANA_PASSWORD; do
  if missing "$name"; then
    value=$(hex 32)
    echo "$name=$value" >>"$new"
  fi
done
if missing AIRFLOW_FERNET_KEY; then
  value=$(fernet)
  echo "AIRFLOW_FERNET_KEY=$value" >>"$new"
fi
mv "$new" "$file"
