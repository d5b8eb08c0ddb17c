#!/bin/sh
# Makes sure that git is installed: tests compare revisions of the contract.
set -eu
command -v git >/dev/null && exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "error: git is missing and this user cannot install it; on Debian: sudo apt-get install git" >&2
    exit 1
fi
echo "installing git"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install --yes --quiet --no-install-recommends git
