#!/bin/sh
# Makes sure that a kubectl is installed that can render the manifests: usage ensure-kubectl.sh FOLDER
# If it is missing, that of Debian 13, verified by apt, is unpacked into FOLDER: Debian 12's is too old for the manifests.
set -eu
folder=$1
PATH="$folder:$PATH"
manifests=deploy/kubernetes/overlays/production
if kubectl kustomize "$manifests" >/dev/null 2>&1; then
    printf 'kubectl: '
    exec kubectl version --client
fi
keys=/usr/share/keyrings/debian-archive-keyring.gpg
# The archive that this machine is configured for.
uris=$(apt-get update --print-uris 2>/dev/null) || uris=
archive=$(echo "$uris" | sed -n "s|^'\(.*/debian/\)dists/.*|\1|p" | head -n 1)
if [ -z "$archive" ] || [ ! -r "$keys" ]; then
    echo "error: kubectl is missing or cannot render $manifests, and cannot be installed; version 1.27 or later is needed" >&2
    exit 1
fi

echo "kubectl: downloading Debian 13's into $folder"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' HUP INT TERM
mkdir -p "$work/state/lists/partial" "$work/cache/archives/partial"
echo "deb [signed-by=$keys] $archive trixie main" >"$work/sources"
isolated_apt() {
    apt-get -o Dir::Etc::SourceList="$work/sources" -o Dir::Etc::SourceParts=- -o Dir::State="$work/state" \
        -o Dir::Cache="$work/cache" -o APT::Sandbox::User="$(id -un)" "$@"
}
isolated_apt update -qq
(cd "$work" && isolated_apt download -qq kubectl && dpkg-deb --extract kubectl_*.deb .)
install -m 755 "$work/usr/bin/kubectl" "$folder/kubectl"
"$folder/kubectl" kustomize "$manifests" >/dev/null
