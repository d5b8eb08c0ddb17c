#!/bin/sh
# Starts Alertmanager with its configuration, into which it writes the webhook: Alertmanager reads no variables.
set -eu
receiver=nobody url=http://127.0.0.1:9
if [ -n "${ALERT_WEBHOOK:-}" ]; then
  # An address may have characters that mean something to sed.
  receiver=webhook url=$(printf %s "$ALERT_WEBHOOK" | sed 's/[&|]/\\&/g')
fi
umask 077
sed "s|RECEIVER|$receiver|; s|WEBHOOK_URL|$url|" "$(dirname "$0")/alertmanager.yml" >/tmp/alertmanager.yml
unset ALERT_WEBHOOK url
exec alertmanager --config.file=/tmp/alertmanager.yml --storage.path=/alertmanager --cluster.listen-address=
