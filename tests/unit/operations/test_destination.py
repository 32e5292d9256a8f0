"""What a gate puts there is put there whole, and nothing that is not its own is touched."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from nnguard._models.index import SAFETENSORS_INDEX
from nnguard._operations.destination import MANIFEST, Destination, write_list


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "room").mkdir()
    return tmp_path / "room" / "net"


def put(destination: Destination, content: str, *more: str, overwrite: bool = False) -> None:
    """Put a folder of a configuration, an index and some more files there."""
    with destination.staging() as folder:
        made = folder / "made"
        (made / "tokenizer").mkdir(parents=True)
        for name in ("config.json", SAFETENSORS_INDEX, "tokenizer/vocab.txt", *more):
            (made / name).write_text(content)
        write_list(made, {"content": content})
        destination.put(made, overwrite=overwrite)


def content_of(path: Path) -> dict[str, str]:
    files = [file for file in path.rglob("*") if file.is_file()]
    return {str(file.relative_to(path)): file.read_text() for file in files}


def of(content: str, *more: str) -> dict[str, str]:
    names = ("config.json", SAFETENSORS_INDEX, "tokenizer/vocab.txt", *more)
    return dict.fromkeys(names, content)


def assert_holds(path: Path, content: str, *more: str) -> None:
    found = content_of(path)
    assert json.loads(found.pop(MANIFEST))["content"] == content
    assert found == of(content, *more)


BOTH = pytest.mark.parametrize("in_place", [False, True], ids=["new", "in place"])


@BOTH
def test_put_and_put_again(path: Path, *, in_place: bool) -> None:
    if in_place:
        path.mkdir()
    destination = Destination(path, in_place=in_place)
    put(destination, "first", "only-in-the-first")
    assert_holds(path, "first", "only-in-the-first")
    with pytest.raises(FileExistsError, match="exists already"):
        put(destination, "second")
    assert_holds(path, "first", "only-in-the-first")
    put(destination, "second", overwrite=True)
    assert_holds(path, "second")
    assert [each.name for each in path.parent.iterdir()] == ["net"]


@BOTH
def test_what_others_have_put_there_stays(path: Path, *, in_place: bool) -> None:
    path.mkdir()
    destination = Destination(path, in_place=in_place)
    put(destination, "first")
    for name in ("mine", "tokenizer/mine"):
        (path / name).write_text("mine")
        with pytest.raises(FileExistsError, match="no gate has put there"):
            put(destination, "second", overwrite=True)
        assert not destination.take_away()
        assert content_of(path).pop(name) == "mine"
        (path / name).unlink()
    assert_holds(path, "first")


def test_a_file_that_comes_at_the_last_moment_stays(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the last look at the folder and the exchange."""
    destination = Destination(path)
    put(destination, "first")
    looked = Destination.check

    def check(self: Destination, *, overwrite: bool) -> None:
        looked(self, overwrite=overwrite)
        (path / "mine").write_text("mine")

    monkeypatch.setattr(Destination, "check", check)
    with pytest.raises(FileExistsError, match="no gate has put there"):
        put(destination, "second", overwrite=True)
    assert (path / "mine").read_text() == "mine"
    assert (path / "config.json").read_text() == "first"


@pytest.mark.parametrize("what", ["file", "link", "folder with a file", "list that is no list"])
def test_what_is_there_is_not_a_gates(path: Path, what: str) -> None:
    if what == "file":
        path.write_text("mine")
    elif what == "link":
        (path.parent / "elsewhere").mkdir()
        path.symlink_to("elsewhere")
    else:
        path.mkdir()
        (path / "file").write_text("mine")
        if what.startswith("list"):
            (path / MANIFEST).write_text('["file"]')
    before = content_of(path.parent)
    said = "is a file, where" if what == "file" else "no gate has put there"
    with pytest.raises(FileExistsError, match=said):
        put(Destination(path), "first", overwrite=True)
    assert content_of(path.parent) == before
    assert path.is_symlink() == (what == "link")


def test_an_empty_folder_is_nobodys(path: Path) -> None:
    path.mkdir()
    put(Destination(path), "first")
    assert_holds(path, "first")


def test_in_place_the_folder_stays(path: Path) -> None:
    path.mkdir()
    number = path.stat().st_ino
    put(Destination(path, in_place=True), "first")
    put(Destination(path, in_place=True), "second", overwrite=True)
    assert path.stat().st_ino == number


def test_in_place_what_a_killed_gate_has_left_is_replaced(path: Path) -> None:
    path.mkdir()
    destination = Destination(path, in_place=True)
    put(destination, "first")
    (path / SAFETENSORS_INDEX).unlink()
    put(destination, "second")
    assert_holds(path, "second")


def test_in_place_the_list_comes_first_and_the_index_last(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.mkdir()
    names: list[str] = []
    replace = Path.replace

    def noting(self: Path, target: Path) -> Path:
        if target.parent == path:
            names.append(target.name)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", noting)
    put(Destination(path, in_place=True), "first")
    assert names == [MANIFEST, "config.json", "tokenizer", SAFETENSORS_INDEX]


def test_in_place_takes_a_folder(path: Path) -> None:
    with pytest.raises(NotADirectoryError):
        Destination(path, in_place=True).check(overwrite=True)


def test_there_is_no_folder_for_it(path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        Destination(path / "deeper").check(overwrite=True)


@BOTH
def test_take_away(path: Path, *, in_place: bool) -> None:
    path.mkdir()
    destination = Destination(path, in_place=in_place)
    assert not destination.take_away()
    put(destination, "first")
    assert destination.take_away()
    assert not content_of(path.parent)
    assert path.exists() == in_place


@BOTH
def test_what_killed_gates_have_left_goes(path: Path, *, in_place: bool) -> None:
    path.mkdir()
    place = path if in_place else path.parent
    killed, at_work, begun, others = (
        place / f".{name}.gate-{at:016x}" for at, name in enumerate(("net", "net", "net", "other"))
    )
    for each in (killed, at_work, begun, others):
        each.mkdir()
        (each / "weights").write_text("some")
    (begun / "weights").unlink()  # it is locked before there is anything in it
    descriptor = os.open(at_work, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    if in_place:
        (others / "weights").unlink()
        others.rmdir()
    put(Destination(path, in_place=in_place), "first")
    os.close(descriptor)
    assert not killed.exists()
    assert (at_work / "weights").exists()
    assert begun.exists()
    assert in_place or others.exists()


@pytest.mark.parametrize("name", [".net.gate-backup", f".net.gate-{1:016x}.old"])
def test_what_only_looks_like_theirs_stays(path: Path, name: str) -> None:
    other = path.parent / name
    other.mkdir()
    (other / "weights").write_text("some")
    put(Destination(path), "first")
    assert (other / "weights").exists()


@pytest.mark.parametrize("make", [os.mkfifo, Path.touch, lambda path: path.symlink_to(path.parent)])
def test_what_is_no_folder_is_not_waited_for(path: Path, make: Callable[[Path], object]) -> None:
    other = path.parent / f".net.gate-{1:016x}"
    make(other)
    put(Destination(path), "first")
    assert_holds(path, "first")
    assert os.path.lexists(other)


def test_staging_is_for_the_owner_alone(path: Path) -> None:
    with Destination(path).staging() as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        inner = folder
    assert not inner.exists()


def test_staging_goes_after_an_error(path: Path) -> None:
    def stop() -> None:
        with Destination(path).staging() as folder:
            (folder / "weights").write_text("some")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert not [*path.parent.iterdir()]
