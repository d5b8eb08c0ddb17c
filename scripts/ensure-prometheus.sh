#!/bin/sh
# Makes sure that promtool and amtool are installed for `make alerts`. Never starts a service.
set -eu
ensure() {
    if command -v "$1" >/dev/null; then
        echo "$1: $(command -v "$1")"
        return
    fi
    "$(dirname "$0")/install-server.sh" "$1" "$2" <<HELP
  other systems:     install $2 so that $1 is on the PATH
HELP
}
ensure promtool prometheus
ensure amtool prometheus-alertmanager
