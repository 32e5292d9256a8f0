"""Whatever a path leads to is read without waiting and without an end, and never replaced."""

import errno
import gc
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

import nnguard
import samples
from nnguard._base import files


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


SPECIAL = {
    "fifo": os.mkfifo,
    "link to a fifo": lambda path: (os.mkfifo(f"{path}.fifo"), path.symlink_to(f"{path}.fifo")),
    "link to a device": lambda path: path.symlink_to("/dev/zero"),
    "socket": make_socket,
    "folder": Path.mkdir,
}


@pytest.fixture(params=SPECIAL)
def special(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """What is no regular file, though its name says so."""
    path = tmp_path / "model.nnc"
    SPECIAL[request.param](path)
    return path


READERS: list[Callable[[Path], object]] = [
    files.open_file,
    lambda path: files.read_file(path, 10),
    nnguard.Stream.open,
    nnguard.SigningKey.load,
    nnguard.PublicKey.load,
    nnguard.Identity.load,
    nnguard.Recipient.load,
    nnguard.ContentKey.load,
    nnguard.licensing.License.load,
    nnguard.licensing.RevocationList.load,
    nnguard.licensing.Ledger,
]


@pytest.mark.parametrize("read", READERS)
def test_special_files_are_refused(special: Path, read: Callable[[Path], object]) -> None:
    gc.collect()  # or descriptors of earlier tests are closed in between
    before = len([*Path("/proc/self/fd").iterdir()])
    with pytest.raises(OSError, match=r"model\.nnc"):
        read(special)
    gc.collect()
    assert len([*Path("/proc/self/fd").iterdir()]) == before


def test_state_file_that_is_special(special: Path) -> None:
    from nnguard._licensing.policy import _read_state

    with pytest.raises(OSError, match=r"model\.nnc"):
        _read_state(special)


def test_file_is_read_up_to_its_limit_or_not_at_all(tmp_path: Path) -> None:
    data = os.urandom((1 << 20) + 5)
    (tmp_path / "a").write_bytes(data)
    assert files.read_file(tmp_path / "a", len(data)) == data
    with pytest.raises(nnguard.errors.LimitError, match=f"has more than {len(data) - 1} bytes"):
        files.read_file(tmp_path / "a", len(data) - 1)


def test_special_files_are_not_replaced(special: Path) -> None:
    kind = stat.S_IFMT(special.lstat().st_mode)
    for overwrite in (False, True):
        with pytest.raises(FileExistsError):
            files.write_bytes(special, b"new", overwrite=overwrite)
        with pytest.raises(FileExistsError):
            nnguard.Stream.from_bytes(samples.small_stream()).save(special, overwrite=overwrite)
    assert stat.S_IFMT(special.lstat().st_mode) == kind


def test_links_are_replaced_not_followed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to("file")
    files.write_bytes(tmp_path / "link", b"new", overwrite=True)
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"old"


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no/x\.nnc: there is no folder"):
        files.write_bytes(tmp_path / "no" / "x.nnc", b"", overwrite=False)


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EINVAL])
def test_file_systems_that_reserve_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    arrays = nnguard.decompress(samples.path_of("urq"))
    monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    nnguard.decompress_to_file(samples.path_of("urq"), tmp_path / "a.safetensors")
    assert (tmp_path / "a.safetensors").stat().st_size > sum(a.nbytes for a in arrays.values())


def test_full_disk_shows_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    with pytest.raises(OSError, match="No space"):
        nnguard.decompress_to_file(samples.path_of("urq"), tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


def contents_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def fail(_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("old", [None, b"old"])
def test_files_get_their_names_together_or_not_at_all(tmp_path: Path, old: bytes | None) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    if old is not None:
        first.write_bytes(old)
        second.write_bytes(old)
    before = contents_of(tmp_path)

    def write_both(write_second: Callable[[BinaryIO], object], then: Callable[[], object]) -> None:
        with files.named_together():
            files.write_bytes(first, b"new", overwrite=True)
            files.write_atomically(second, write_second, overwrite=True)
            assert contents_of(tmp_path) == before, "none has its name yet"
            then()

    with pytest.raises(OSError, match="No space"):
        write_both(fail, list)
    assert contents_of(tmp_path) == before

    def take_second_name() -> None:
        second.unlink(missing_ok=True)
        second.mkdir()

    with pytest.raises(IsADirectoryError):
        write_both(lambda file: file.write(b"new"), take_second_name)
    second.rmdir()
    before.pop("second", None)
    assert contents_of(tmp_path) == before

    write_both(lambda file: file.write(b"new"), list)
    assert contents_of(tmp_path) == {"first": b"new", "second": b"new"}


def test_name_given_twice_is_given_back(tmp_path: Path) -> None:
    def write_all() -> None:
        with files.named_together():
            for name, overwrite in (("a", False), ("a", True), ("b", False)):
                files.write_bytes(tmp_path / name, b"new", overwrite=overwrite)
            (tmp_path / "b").write_bytes(b"of another process")

    with pytest.raises(FileExistsError):
        write_all()
    assert contents_of(tmp_path) == {"b": b"of another process"}


def test_file_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match="a exists already"):
        files.write_atomically(
            tmp_path / "a", lambda _: (tmp_path / "a").write_bytes(b"other"), overwrite=False
        )
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"other"]


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
def test_files_never_have_other_permissions(tmp_path: Path) -> None:
    seen = []
    files.write_atomically(
        tmp_path / "a",
        lambda file: seen.append(os.fstat(file.fileno()).st_mode & 0o777),
        overwrite=False,
        mode=0o600,
    )
    assert seen == [0o600]
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600
