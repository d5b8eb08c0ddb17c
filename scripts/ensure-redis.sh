#!/bin/sh
# Makes sure that a Redis server is installed for the tests of the message broker. Never starts a service.
set -eu
if command -v redis-server >/dev/null; then
    printf 'Redis: '
    exec redis-server --version
fi
"$(dirname "$0")/install-server.sh" Redis redis-server <<'HELP'
  other systems:     install Redis or Valkey so that redis-server is on the PATH
HELP
