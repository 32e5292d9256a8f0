"""No secret shows: in output, errors, `repr`, logs, the ledger, or temporary files."""

from __future__ import annotations

import base64
import copy
import io
import logging
import pickle
import traceback
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

import nnguard
import samples
from nnguard.cli import main
from nnguard.hiding import extract
from nnguard.locking.record import LockRecord

pytest.importorskip("sqlalchemy")

PLANTED = bytes(range(160, 192))
"""The content key; no run of it occurs by chance."""


def spellings(secret: bytes) -> Iterator[bytes]:
    """Yield the ways in which a secret may be written."""
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    yield repr(secret).encode()[2:-1]
    for shift in range(3):
        encoded = base64.b64encode(bytes(shift) + secret)
        yield encoded[(4, 4, 4)[shift] if shift else 0 : -4]


def shows(text: bytes, secret: bytes) -> bool:
    joined = text.replace(b"\n", b"")
    return any(spelling in text or spelling in joined for spelling in spellings(secret))


def test_the_search_finds_what_is_there() -> None:
    for text in (PLANTED.hex(), base64.b64encode(b"x" + PLANTED).decode(), repr(PLANTED)):
        assert shows(text.encode(), PLANTED)
    assert shows(nnguard.SigningKey.generate().pem() + PLANTED, PLANTED)
    assert not shows(b"nothing of the kind", PLANTED)


class Shop:
    """A folder with all files of a sale, and everything that was said on the way."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said = b""

    def run(self, command: str, *, code: int = 0) -> None:
        """Run a command, and keep what it prints."""
        out = io.StringIO()
        with redirect_stdout(out), redirect_stderr(out):
            assert main(command.split()) == code, out.getvalue()
        self.said += out.getvalue().encode()


@pytest.fixture
def shop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[Shop]:
    folder, temporary = tmp_path / "shop", tmp_path / "temporary"
    folder.mkdir()
    temporary.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TMPDIR", str(temporary))
    caplog.set_level(logging.DEBUG)
    (folder / "model.nnc").write_bytes(samples.path_of("default").read_bytes())
    nnguard.ContentKey(PLANTED).save("planted.key")
    shop = Shop(folder)
    yield shop
    secrets = {"planted.key": PLANTED}
    for name in ("vendor.key", "ada.key", "desk.key"):
        secrets[name] = base64.b64decode(Path(name).read_bytes().splitlines()[1])[-32:]
    shop.said += caplog.text.encode()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    for owner, secret in secrets.items():
        assert not shows(shop.said, secret), f"{owner} was said"
        holders = {path.name for path in files if shows(path.read_bytes(), secret)}
        assert holders <= {owner}, f"{owner} is in {holders}"


def test_whole_life(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nnguard.ContentKey, "generate", lambda: nnguard.ContentKey(PLANTED))
    for name in ("vendor", "ada --identity", "desk --identity"):
        shop.run(f"keygen {name}")
    shop.run("sign model.nnc -o release.nnc --key vendor.key")
    shop.run("lock release.nnc -o trial.nnc --content-key temporary.key --key vendor.key --json")
    Path("temporary.key").unlink()  # the same as planted.key
    issue = "license issue trial.nnc --key vendor.key --to ada.pub --customer Ada"
    shop.run(f"{issue} -o ada.license --content-key planted.key --desk desk.key")
    shop.run(f"{issue} -o second.license --desk desk.key --json")
    unlock = "unlock trial.nnc --license ada.license --trust vendor.pub"
    shop.run(f"{unlock} -o full.nnc --identity ada.key --mark")
    shop.run("verify full.nnc --trust vendor.pub --json")
    shop.run(f"{unlock} -o no.nnc --identity desk.key", code=7)
    shop.run(f"{unlock} -o no.nnc --identity ada.key --now 2020-01-01", code=9)
    shop.run("license list --json")
    shop.run("license show ada.license")
    shop.run("inspect trial.nnc --json")


def test_objects_and_errors(shop: Shop, key: nnguard.SigningKey) -> None:
    content_key = nnguard.ContentKey(PLANTED)
    identities = [nnguard.Identity.generate(), nnguard.Identity.generate(post_quantum=True)]
    identities[0].save("ada.key")
    key.save("vendor.key")
    nnguard.Identity.generate().save("desk.key")
    release = nnguard.sign("model.nnc", key)
    locked = nnguard.lock(release, content_key=content_key)
    license_ = nnguard.issue_license(
        locked.stream, content_key, to=identities[0].recipient, signer=key
    )
    extraction = extract(locked.stream)
    record = LockRecord.parse(extraction.record)
    for shown in (content_key, *identities, locked, license_, record, extraction, key):
        shop.said += f"{shown!r} {shown} {shown!s:.10}".encode(errors="replace")
    for secret in (content_key, *identities):
        for duplicate in (pickle.dumps, copy.deepcopy):
            with pytest.raises(TypeError):
                duplicate(secret)

    failures: list[Callable[[], object]] = [
        lambda: nnguard.unlock(locked.stream, license_, identities[1], [key.public_key]),
        lambda: nnguard.unlock(release, license_, identities[0], [key.public_key]),
        lambda: nnguard.issue_license(
            locked.stream, nnguard.ContentKey(bytes(32)), to=identities[0].recipient, signer=key
        ),
        lambda: nnguard.issue_license(
            locked.stream, content_key, to=identities[0].recipient, signer=key, tier="no such"
        ),
        lambda: nnguard.ContentKey(PLANTED + b"x"),
        lambda: record.open(content_key, b"another header"),
    ]
    for fail in failures:
        with pytest.raises((nnguard.NnguardError, ValueError)) as caught:
            fail()
        lines = traceback.format_exception(caught.type, caught.value, caught.tb)
        shop.said += "".join(lines).encode()
