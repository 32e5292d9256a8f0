#!/usr/bin/env bash
# What the action does. All that it is told comes in variables, which the shell does not evaluate.
set -euo pipefail
umask 077
keys=$(mktemp -d "${RUNNER_TEMP:-/tmp}/keys.XXXXXX")
trap 'rm -rf "$keys"' EXIT
printf '%s\n' "$KEY" > "$keys/signing.key"
unset KEY
[ -n "$NNGUARD_PASSPHRASE" ] || unset NNGUARD_PASSPHRASE
mapfile -t options < <(printf '%s' "$OPTIONS")
umask 022

version=${VERSION#v}
"$NNGUARD" sign "$MODEL" -o "$OUTPUT" --key "$keys/signing.key" \
    --issuer "$ISSUER" --name "$NAME" --version "$version" "${options[@]}"
report=$("$NNGUARD" verify "$OUTPUT" --trust "$TRUST" \
    --issuer "$ISSUER" --name "$NAME" --version "==$version" --json)
python3 -I - "$report" >> "$GITHUB_OUTPUT" <<'PYTHON'
import json, sys

report = json.loads(sys.argv[1])
print(f"digest={report['digest']}\nkey-id={report['key_id']}")
PYTHON
