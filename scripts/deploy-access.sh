#!/usr/bin/env bash
# Puts what the deployment needs to reach its target where ssh and kubectl look for it. Nothing is set: nothing is done.
set -euo pipefail
umask 077
if [ -n "${DEPLOY_SSH_KEY:-}" ]; then
  # Without known hosts anybody could answer in the host's place.
  [ -n "${DEPLOY_KNOWN_HOSTS:-}" ] || { echo "error: DEPLOY_KNOWN_HOSTS is not set" >&2; exit 2; }
  mkdir -p ~/.ssh
  printf '%s\n' "$DEPLOY_SSH_KEY" >~/.ssh/id_deploy
  printf '%s\n' "$DEPLOY_KNOWN_HOSTS" >>~/.ssh/known_hosts
  printf 'Host *\n  IdentityFile ~/.ssh/id_deploy\n  StrictHostKeyChecking yes\n' >>~/.ssh/config
  echo "access by SSH is set up"
fi
if [ -n "${DEPLOY_KUBECONFIG:-}" ]; then
  mkdir -p ~/.kube
  printf '%s\n' "$DEPLOY_KUBECONFIG" >~/.kube/config
  echo "access to the cluster is set up"
fi
if [ -n "${REGISTRY_PASSWORD:-}" ]; then
  docker login --username "$REGISTRY_USER" --password-stdin "${IMAGE_REPOSITORY%%/*}" <<<"$REGISTRY_PASSWORD"
fi
