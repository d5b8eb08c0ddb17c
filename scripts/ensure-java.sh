#!/bin/sh
# Makes sure that a Java is installed for the tests of batch scoring on Spark.
set -eu
if command -v java >/dev/null; then
    printf 'Java: '
    exec java -version 2>&1
fi
"$(dirname "$0")/install-server.sh" Java openjdk-17-jre-headless <<'HELP'
  other systems:     install Java 17 or 21 so that java is on the PATH
HELP
