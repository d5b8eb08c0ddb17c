#!/bin/sh
# Makes sure that a Chromium is installed for the tests of the pages.
set -eu
for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null; then
        printf 'browser: '
        exec "$name" --version
    fi
done
"$(dirname "$0")/install-server.sh" Chromium chromium <<'HELP'
  other systems:     install Chromium or Google Chrome so that chromium or google-chrome is on the PATH
HELP
