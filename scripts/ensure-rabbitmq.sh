#!/bin/sh
# Makes sure that RabbitMQ is installed for the tests of the message broker. Never starts a service.
set -eu
PATH="$PATH:/usr/local/sbin:/usr/sbin" # where Debian installs the server, and not on users' PATH
if command -v rabbitmq-server >/dev/null; then
    echo "RabbitMQ: installed"
    exit 0
fi
"$(dirname "$0")/install-server.sh" RabbitMQ rabbitmq-server <<'HELP'
  other systems:     run the tests in a container of Debian
HELP
