"""Files that processes share: seen by others, bound to what was opened, gone afterwards."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from nnguard.sharing import SharedFile

OTHER = """
import os, sys
descriptor = os.open(sys.argv[1], os.O_RDWR)
print(os.pread(descriptor, 5, 3).decode())
os.pwrite(descriptor, b"from there", 100)
"""


def visit(path: str) -> str:
    """Read and write the file from another process."""
    done = subprocess.run(
        [sys.executable, "-c", OTHER, path], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture(params=["memory", "file"])
def in_memory(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Path:
    """Share memory in both ways; temporary files go to the folder that is returned."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if request.param == "file":
        monkeypatch.delattr(os, "memfd_create", raising=False)
    elif not hasattr(os, "memfd_create"):
        pytest.skip("needs memfd_create")
    return tmp_path


def test_memory_is_seen_by_other_processes(in_memory: Path) -> None:
    file = SharedFile.in_memory(1000)
    assert file.size == 1000
    assert os.pread(file.descriptor, 1000, 0) == bytes(1000)
    assert file.write(b"hello", 3) == 8
    assert visit(file.path) == "hello"
    assert os.pread(file.descriptor, 10, 100) == b"from there"


def test_memory_goes_with_the_object(in_memory: Path) -> None:
    file = SharedFile.in_memory(1000)
    path = file.path
    assert os.path.exists(path)  # noqa: PTH110
    del file
    gc.collect()
    assert not os.path.exists(path)  # noqa: PTH110
    assert not list(in_memory.iterdir())


def test_file_without_proc_is_removed(in_memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere than on Linux no path leads to an open file: it keeps its name until the end."""
    monkeypatch.setattr(os.path, "exists", lambda path: False)
    file = SharedFile.in_memory(1000)
    assert [str(path) for path in in_memory.iterdir()] == [file.path]
    file.write(b"hello", 3)
    assert visit(file.path) == "hello"
    del file
    gc.collect()
    assert not list(in_memory.iterdir())


def test_array_is_written_as_it_lies_in_memory() -> None:
    file = SharedFile.in_memory(64)
    values = np.arange(8, dtype=np.float64)
    assert file.write(values, 0) == 64
    assert np.array_equal(np.fromfile(file.path, np.float64), values)
    assert file.write(np.empty(0, np.float32), 5) == 5


def test_what_was_opened_is_read_though_its_name_means_another_file(tmp_path: Path) -> None:
    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc")
    (tmp_path / "model").write_bytes(b"...first")
    file = SharedFile.open(tmp_path / "model")
    (tmp_path / "next").write_bytes(b"...other, and longer")
    (tmp_path / "next").replace(tmp_path / "model")
    assert file.size == 8
    assert np.fromfile(file.path, np.uint8).tobytes() == b"...first"
    assert SharedFile.open(tmp_path / "model").size == 20


def test_file_that_is_opened_to_read_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"first")
    with pytest.raises(OSError, match="Bad file descriptor"):
        SharedFile.open(tmp_path / "model").write(b"x", 0)
    assert (tmp_path / "model").read_bytes() == b"first"


def test_missing_file_is_the_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        SharedFile.open(tmp_path / "missing")


def test_closing_twice_is_allowed() -> None:
    file = SharedFile.in_memory(10)
    descriptor = file.descriptor
    file.close()
    file.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
