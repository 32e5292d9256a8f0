"""Whatever a path leads to is read without waiting and without an end, and never replaced."""

import errno
import gc
import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

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


@pytest.fixture(scope="module")
def frozen() -> Iterator[None]:
    """Collections see nothing of earlier tests, whose objects take most of a second to look at."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(params=SPECIAL)
def special(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """What is not a regular file, though its name says so."""
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


@pytest.mark.usefixtures("frozen")
@pytest.mark.parametrize("read", READERS)
def test_special_files_are_refused(special: Path, read: Callable[[Path], object]) -> None:
    gc.collect()  # or descriptors of earlier tests are closed in between
    before = len([*Path("/proc/self/fd").iterdir()])
    with pytest.raises(OSError, match=r"model\.nnc"):
        read(special)
    gc.collect()
    assert len([*Path("/proc/self/fd").iterdir()]) == before


def test_state_file_that_is_special(special: Path) -> None:
    from nnguard._licensing.state import LicenseState

    with pytest.raises(OSError, match=r"model\.nnc"), LicenseState(special):
        pass


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
