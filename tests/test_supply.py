"""What CI installs is pinned, its licenses are listed, and advisories are heard."""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import distribution, distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from packages import LINKED, LOCK, license_of, locked

ROOT = Path(__file__).parents[1]
UNLOCKED = {"atheris", "nncodec", "torch", "uv"}


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def requirements(path: str) -> list[Requirement]:
    return [Requirement(line) for line in read(path).splitlines() if line and line[0] != "#"]


def test_lock_has_all_that_is_asked_for() -> None:
    pinned: dict[str, set[str]] = {}
    for each in locked():
        (pin,) = each.specifier
        assert pin.operator == "=="
        pinned.setdefault(canonicalize_name(each.name), set()).add(pin.version)
    wanted = [
        each
        for name in ("dev", "docs", "tools")
        for each in requirements(f"requirements/{name}.txt")
    ]
    for each in wanted + [Requirement(line) for line in requires("nnguard") or []]:
        name = canonicalize_name(each.name)
        if name not in UNLOCKED:
            assert list(each.specifier.filter(pinned[name])) != [], name


def test_lock_has_hashes_and_names_no_index() -> None:
    entries = re.split(r"\n(?=\w)", LOCK.read_text(encoding="utf-8").partition("\n\n")[0])
    assert all("--hash=sha256:" in entry for entry in entries[1:])
    for path in (ROOT / "requirements").iterdir():
        assert "://" not in path.read_text(encoding="utf-8")


def test_licenses_of_all_packages_are_listed() -> None:
    rows = dict(re.findall(r"^\| ([a-z0-9-]+) \| (.+) \|$", read("docs/licenses.md"), re.MULTILINE))
    del rows["package"]
    names = {canonicalize_name(each.name) for each in locked()}
    assert rows.keys() == names | UNLOCKED | LINKED.keys()
    installed = {canonicalize_name(each.name): each for each in distributions()}
    for name, each in ((canonicalize_name(each.name), each) for each in locked()):
        # A package may change its license with any version.
        if name in installed and each.specifier.contains(installed[name].version):
            assert rows[name] == LINKED.get(name, license_of(installed[name]))


def test_notice_has_the_licenses_of_what_is_linked_in() -> None:
    (text,) = [f for f in distribution("nanobind").files or [] if f.name == "LICENSE"]
    assert text.read_text().strip() in read("NOTICE")


def test_workflows_run_targets_that_exist_and_actions_of_one_commit() -> None:
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
    for path in (ROOT / ".github" / "workflows").iterdir():
        text = path.read_text(encoding="utf-8")
        assert "://" not in text
        assert set(re.findall(r"make ([a-z-]+)", text)) <= targets
        for action in re.findall(r"uses: (\S+)", text):
            assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action)


@contextmanager
def advisories(status: int, *found: str) -> Iterator[str]:
    """A service that knows these advisories for NumPy; gives its address."""
    affected = [{"package": {"name": "numpy", "ecosystem": "PyPI"}, "ranges": []}]
    vulnerabilities = [{"id": name, "summary": "-", "affected": affected} for name in found]

    class Service(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            known = asked["package"]["name"] == "numpy" and vulnerabilities
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps({"vulns": known} if known else {}).encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def audit(address: str) -> tuple[int, str]:
    pytest.importorskip("pip_audit")
    command = [sys.executable, ROOT / "supply" / "audit.py", "--vulnerability-service=osv"]
    done = subprocess.run(
        [*command, f"--osv-url={address}"], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_audit_fails_where_an_advisory_is_known() -> None:
    with advisories(200, "PYSEC-2030-1") as address:
        code, output = audit(address)
    assert code == 1
    assert re.search(r"numpy \S+: PYSEC-2030-1, fixed in no version yet", output)


def test_audit_passes_where_none_is() -> None:
    with advisories(200) as address:
        code, output = audit(address)
    assert code == 0
    assert re.match(r"audit: \d+ packages looked up, \d+ not known.", output)


@pytest.mark.parametrize("status", [503, None])
def test_audit_is_skipped_in_one_line_where_nobody_answers(status: int | None) -> None:
    if status:
        with advisories(status) as address:
            code, output = audit(address)
    else:
        code, output = audit("http://127.0.0.1:9")
    assert (code, output) == (0, "audit: skipped, no service of advisories answers.\n")
