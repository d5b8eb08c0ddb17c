#!/bin/sh
# Installs a server, or the tools of one, from Debian's packages, without starting it: usage install-server.sh NAME PACKAGE <alternatives.txt
# Where that is not possible, standard input is what a user can do instead.
set -eu
name=$1 package=$2

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "error: $name is missing and this user cannot install it. Do one of these, then run it again:" >&2
    echo "  Debian or Ubuntu:  sudo apt-get update && sudo apt-get install --no-install-recommends $package" >&2
    cat >&2
    exit 1
fi

echo "$name: installing $package, without starting it"
# Debian's packages ask this program before they start a service; 101 means "do not". An existing one is kept.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' HUP INT TERM # with a signal alone, sh would leave it, and no service would start any more
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get install --yes --no-install-recommends "$package"
