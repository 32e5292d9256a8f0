"""Asks whether advisories are known for what is installed here; fails if there are.

    python supply/audit.py [options of pip-audit]

Says so, and does not fail, where nobody answers. pip-audit takes a package that its service does
not know for harmless; here, packages that could not be looked up are counted.
"""

from __future__ import annotations

import json
import subprocess
import sys

NO_ANSWER = ("ConnectionError", "Timeout", "ServiceError", "JSONDecodeError")


def main(options: list[str]) -> int:
    command = [sys.executable, "-m", "pip_audit", "--local", "--progress-spinner=off"]
    done = subprocess.run(
        [*command, "--format=json", *options], capture_output=True, text=True, check=False
    )
    if not done.stdout:
        if "No module named pip_audit" in done.stderr:
            print("audit: skipped, pip-audit is not installed.")
        elif any(words in done.stderr for words in NO_ANSWER):
            print("audit: skipped, no service of advisories answers.")
        else:
            sys.stderr.write(done.stderr)
            return 1
        return 0
    packages = json.loads(done.stdout)["dependencies"]
    known = [each for each in packages if "vulns" in each]
    if not known:
        print("audit: skipped, the service knows none of the packages.")
    else:
        print(f"audit: {len(known)} packages looked up, {len(packages) - len(known)} not known.")
    found = [(each, vulnerability) for each in known for vulnerability in each["vulns"]]
    for each, vulnerability in found:
        fixed = ", ".join(vulnerability["fix_versions"]) or "no version yet"
        print(f"{each['name']} {each['version']}: {vulnerability['id']}, fixed in {fixed}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
