#!/bin/sh
# Makes sure that wrk is installed, the client of most benchmarks. It says its version only together with an exit code of 1.
set -eu
command -v wrk >/dev/null && exit 0
"$(dirname "$0")/install-server.sh" wrk wrk <<'HELP'
  other systems:     install wrk 4 so that it is on the PATH
HELP
