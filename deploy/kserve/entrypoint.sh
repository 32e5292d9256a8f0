#!/bin/sh
# Fetch a release as KServe does, and let it pass: entrypoint.sh nnguard+ADDRESS DESTINATION
set -eu
address=${1#nnguard+}
incoming=$(mktemp -d)
trap 'rm -rf "$incoming"' EXIT
"${STORAGE_INITIALIZER:-/storage-initializer/scripts/initializer-entrypoint}" "$address" "$incoming"
nnguard gate "$incoming" "$2" --policy "${NNGUARD_POLICY:-/etc/nnguard/policy.toml}" \
    --in-place --force --log-json
