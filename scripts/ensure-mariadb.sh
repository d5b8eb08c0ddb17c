#!/bin/sh
# Makes sure that a MariaDB server is installed for the integration tests. Never starts a service.
set -eu

case "${FEATURE_STORE_URL:-}" in
mysql* | mariadb*)
    echo "MariaDB: the tests use the server in FEATURE_STORE_URL"
    exit 0
    ;;
esac
PATH="$PATH:/usr/local/sbin:/usr/sbin" # where Debian installs the server, and not on users' PATH
if command -v mariadbd >/dev/null && command -v mariadb-install-db >/dev/null; then
    echo "MariaDB: $(mariadbd --version)"
    exit 0
fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    cat >&2 <<'HELP'
error: MariaDB is missing and this user cannot install it. Do one of these, then run it again:
  Debian or Ubuntu:  sudo apt-get update && sudo apt-get install --no-install-recommends mariadb-server
  other systems:     install the server package so that mariadbd and mariadb-install-db are on the PATH
  existing server:   export FEATURE_STORE_URL=mysql+pymysql://user:password@host:3306/database
                     (the user must be allowed to create databases; tests touch only those they create, named *_test)
HELP
    exit 1
fi

echo "MariaDB: installing mariadb-server, without starting it"
# Debian's packages ask this program before they start a service; 101 means "do not". An existing one is kept.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get install --yes --no-install-recommends mariadb-server
