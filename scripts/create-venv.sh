#!/usr/bin/env bash
# Creates a virtual environment with Python 3.11 or later. As root on Debian it installs python3-venv if that is missing.
# usage: create-venv.sh FOLDER
set -euo pipefail
folder=$1

for python in python3 python3.13 python3.12 python3.11; do
  if command -v "$python" >/dev/null && "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then break; fi
  python=
done
if [ -z "$python" ]; then
  echo "error: no Python 3.11 or later on the PATH; install one (Debian 12: apt-get install python3)" >&2
  exit 1
fi

[ -x "$folder/bin/python" ] && "$folder/bin/python" -m pip --version >/dev/null 2>&1 && exit 0
printf 'creating %s with ' "$folder"
"$python" --version
if ! "$python" -c 'import ensurepip' 2>/dev/null; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Python's venv module is incomplete: installing python3-venv"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
  else
    echo "error: Python's venv module is incomplete; run as root: apt-get install python3-venv" >&2
    exit 1
  fi
fi
"$python" -m venv "$folder"
