#!/usr/bin/env bash
# Installs the credentials of the deployment target where ssh, kubectl and docker look for them; those that are not set are skipped.
set -euo pipefail
umask 077
if [ -n "${DEPLOY_SSH_KEY:-}" ]; then
  # Without known hosts any server could impersonate the host.
  [ -n "${DEPLOY_KNOWN_HOSTS:-}" ] || { echo "error: DEPLOY_KNOWN_HOSTS is not set" >&2; exit 2; }
  mkdir -p ~/.ssh
  printf '%s\n' "$DEPLOY_SSH_KEY" >~/.ssh/id_deploy
  printf '%s\n' "$DEPLOY_KNOWN_HOSTS" >>~/.ssh/known_hosts
  printf 'Host *\n  IdentityFile ~/.ssh/id_deploy\n  StrictHostKeyChecking yes\n' >>~/.ssh/config
  echo "configured: SSH"
fi
if [ -n "${DEPLOY_KUBECONFIG:-}" ]; then
  mkdir -p ~/.kube
  printf '%s\n' "$DEPLOY_KUBECONFIG" >~/.kube/config
  echo "configured: kubectl"
fi
if [ -n "${REGISTRY_PASSWORD:-}" ]; then
  docker login --username "$REGISTRY_USER" --password-stdin "${IMAGE_REPOSITORY%%/*}" <<<"$REGISTRY_PASSWORD"
fi
