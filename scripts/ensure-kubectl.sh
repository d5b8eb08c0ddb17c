#!/bin/sh
# Makes sure that there is a kubectl that can render our manifests: usage ensure-kubectl.sh FOLDER
# A missing one comes from Debian 13, checked by apt, into FOLDER and nowhere else: the one of Debian 12 is too old for
# the manifests.
set -eu
folder=$1
PATH="$folder:$PATH"
manifests=deploy/kubernetes/overlays/production
if kubectl kustomize "$manifests" >/dev/null 2>&1; then
    echo "kubectl: $(kubectl version --client | head -n 1)"
    exit 0
fi
keys=/usr/share/keyrings/debian-archive-keyring.gpg
# The archive that this machine already takes its packages from.
archive=$(apt-get update --print-uris 2>/dev/null | sed -n "s|^'\(.*/debian/\)dists/.*|\1|p" | head -n 1)
if [ -z "$archive" ] || [ ! -r "$keys" ]; then
    echo "kubectl is missing or cannot render $manifests, and cannot be installed from here; version 1.27 or later is needed" >&2
    exit 1
fi

echo "kubectl: downloading Debian 13's into $folder"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/state/lists/partial" "$work/cache/archives/partial"
echo "deb [signed-by=$keys] $archive trixie main" >"$work/sources"
of_its_own() {
    apt-get -o Dir::Etc::SourceList="$work/sources" -o Dir::Etc::SourceParts=- -o Dir::State="$work/state" \
        -o Dir::Cache="$work/cache" -o APT::Sandbox::User="$(id -un)" "$@"
}
of_its_own update -qq
(cd "$work" && of_its_own download -qq kubectl && dpkg-deb --extract kubectl_*.deb .)
install -m 755 "$work/usr/bin/kubectl" "$folder/kubectl"
"$folder/kubectl" kustomize "$manifests" >/dev/null
