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
    printf 'MariaDB: '
    exec mariadbd --version
fi
"$(dirname "$0")/install-server.sh" MariaDB mariadb-server <<'HELP'
  other systems:     install the server package so that mariadbd and mariadb-install-db are on the PATH
  existing server:   export FEATURE_STORE_URL=mysql+pymysql://user:password@host:3306/database
                     (the user must be allowed to create databases; tests touch only those they create, named *_test)
HELP
