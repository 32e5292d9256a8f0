"""Worker processes: the same bytes as without, and none of them is ever left behind."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future
from pathlib import Path

import numpy as np
import pytest

import nnguard
import samples
import stock
from nnguard.compression import workers
from nnguard.compression.processes import WorkerProcesses
from nnguard.compression.workers import make_batches

FAST = nnguard.Settings(qp=-20, dependent=False, parameter_optimization=False)

SCRIPT = """
import sys
import numpy as np
import nnguard

rng = np.random.default_rng(0)
arrays = {f"w{at}": rng.normal(0, 0.05, (1100, 1000)).astype(np.float32) for at in range(2)}
settings = nnguard.Settings(qp=-20, dependent=False, parameter_optimization=False)
counted = []
stream = nnguard.compress(arrays, settings, workers=2, progress=counted.append)
restored = nnguard.decompress(stream, workers=2)
assert list(restored) == list(arrays)
stream.save(sys.argv[1])
print("once")
"""

linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


@pytest.fixture(autouse=True)
def small_models_are_worth_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_WORTH_WORKERS", 0)
    monkeypatch.setattr(workers, "_BATCH", 1 << 16)


@pytest.fixture(scope="module")
def network() -> dict[str, stock.Array]:
    """Six batches of different size, with integers and a scalar among them."""
    rng = np.random.default_rng(5)
    arrays: dict[str, stock.Array] = {}
    for at in range(6):
        arrays[f"{at}.weight"] = rng.laplace(0, 0.05, (200 + 50 * at, 200)).astype(np.float32)
        arrays[f"{at}.bias"] = rng.normal(0, 0.1, 200).astype(np.float32)
        arrays[f"{at}.steps"] = np.array(1000 + at, np.int64)
    return arrays


@pytest.fixture(scope="module")
def stream(network: dict[str, stock.Array]) -> nnguard.Stream:
    """The network, compressed in this process."""
    return nnguard.compress(network, FAST, workers=1)


def children() -> set[int]:
    """Return the processes that this one started and that still run."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(") ")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == os.getpid() and state != "Z":
            found.add(int(path.parent.name))
    return found


def same(found: dict[str, stock.Array], expected: dict[str, stock.Array]) -> bool:
    return list(found) == list(expected) and all(
        found[name].dtype == array.dtype and np.array_equal(found[name], array)
        for name, array in expected.items()
    )


@pytest.mark.parametrize("count", [2, 3])
def test_bytes_do_not_depend_on_workers(
    count: int, network: dict[str, stock.Array], stream: nnguard.Stream
) -> None:
    assert bytes(nnguard.compress(network, FAST, workers=count)) == bytes(stream)


@pytest.mark.parametrize("count", [2, 3])
def test_arrays_do_not_depend_on_workers(
    count: int, network: dict[str, stock.Array], stream: nnguard.Stream, tmp_path: Path
) -> None:
    expected = nnguard.decompress(stream, workers=1)
    assert same(nnguard.decompress(stream, workers=count), expected)
    assert same(dict(nnguard.iter_tensors(stream, workers=count)), expected)
    for number in (1, count):
        nnguard.decompress_to_file(stream, tmp_path / f"{number}.safetensors", workers=number)
    files = [(tmp_path / f"{number}.safetensors").read_bytes() for number in (1, count)]
    assert files[0] == files[1]
    for name, array in network.items():
        assert (expected[name].shape, expected[name].dtype) == (array.shape, array.dtype)
        assert array.dtype != np.int64 or expected[name] == array


@pytest.mark.parametrize("count", [1, 2])
def test_stream_of_a_file_and_of_memory_decode_alike(
    count: int, stream: nnguard.Stream, tmp_path: Path
) -> None:
    path = tmp_path / "model.nnc"
    stream.save(path)
    opened = nnguard.Stream.open(path)
    path.unlink()  # it stays open
    assert same(nnguard.decompress(opened, workers=count), nnguard.decompress(stream, workers=1))


@pytest.mark.parametrize("count", [1, 2])
def test_stream_that_becomes_shorter_is_an_error(
    count: int, stream: nnguard.Stream, tmp_path: Path
) -> None:
    stream.save(tmp_path / "model.nnc")
    opened = nnguard.Stream.open(tmp_path / "model.nnc")
    os.truncate(tmp_path / "model.nnc", stream.size // 2)
    with pytest.raises(nnguard.NnguardError, match="shorter"):
        nnguard.decompress(opened, workers=count)


def test_safetensors_are_read_by_workers(
    network: dict[str, stock.Array], stream: nnguard.Stream, tmp_path: Path
) -> None:
    nnguard.decompress_to_file(stream, tmp_path / "model.safetensors", workers=1)
    arrays = nnguard.decompress(stream, workers=1)
    before = nnguard.decompress(nnguard.compress(arrays, FAST, workers=1), workers=1)
    coded = nnguard.compress(tmp_path / "model.safetensors", FAST, workers=2, spool=tmp_path)
    assert dict(sorted(nnguard.decompress(coded).items())).keys() == before.keys()
    assert same(dict(sorted(nnguard.decompress(coded).items())), dict(sorted(before.items())))
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("count", [1, 2])
def test_one_tensor(count: int) -> None:
    arrays = {"w": samples.small_network()["conv.weight"]}
    stream = nnguard.compress(arrays, FAST, workers=count)
    assert bytes(stream) == stock.encode(
        arrays, qp=-20, dependent=False, parameter_optimization=False
    )
    assert same(nnguard.decompress(stream, workers=count), stock.decode(bytes(stream)))


def test_thousands_of_tiny_tensors() -> None:
    rng = np.random.default_rng(6)
    arrays = {
        f"layers.{at}": rng.normal(0, 1, (1 + at % 7, 1 + at % 40)).astype(np.float32)
        for at in range(3000)
    }
    stream = nnguard.compress(arrays, FAST, workers=1)
    assert len(stream) == 3003
    assert bytes(nnguard.compress(arrays, FAST, workers=2)) == bytes(stream)
    found = nnguard.decompress(stream, workers=2)
    assert same(found, nnguard.decompress(stream, workers=1))


def test_batches_hold_every_tensor_once_in_order() -> None:
    sizes = [1, 0, 1 << 16, 5, 1 << 15, 1 << 15, 1 << 20, 3, *[25] * 10_000]
    batches = make_batches(sizes)
    positions = list(itertools.chain.from_iterable(batch.positions for batch in batches))
    assert positions == list(range(len(sizes)))
    assert all(batch.size == sum(sizes[at] for at in batch.positions) for batch in batches)
    assert all(batch.size <= 1 << 16 or len(batch.positions) == 1 for batch in batches)
    assert len(batches) < 16
    assert make_batches([]) == []


@pytest.mark.parametrize("count", [0, -1])
def test_number_of_workers_is_checked(count: int, stream: nnguard.Stream, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="workers"):
        nnguard.compress(samples.small_network(), workers=count)
    with pytest.raises(ValueError, match="workers"):
        nnguard.decompress(stream, workers=count)
    with pytest.raises(ValueError, match="workers"):
        nnguard.decompress_to_file(stream, tmp_path / "out.safetensors", workers=count)
    assert not list(tmp_path.iterdir())


def test_progress_counts_every_byte(
    network: dict[str, stock.Array], stream: nnguard.Stream
) -> None:
    total = sum(array.nbytes for array in network.values())
    coded: list[int] = []
    nnguard.compress(network, FAST, workers=2, progress=coded.append)
    decoded: list[int] = []
    nnguard.decompress(stream, workers=2, progress=decoded.append)
    assert sum(coded) == sum(decoded) == total
    assert len(coded) > 1


def kill_at_first_progress() -> tuple[Callable[[int], None], list[int]]:
    """Return a progress hook that kills all workers while there is more to do, and whom it killed.

    With one of them left, the rest of the work may all go to that one.
    """
    before = children()
    killed: list[int] = []

    def progress(count: int) -> None:
        if not killed:
            killed.extend(children() - before)
            for worker in killed:
                os.kill(worker, signal.SIGKILL)

    return progress, killed


@linux
def test_killed_worker_ends_compression(network: dict[str, stock.Array], tmp_path: Path) -> None:
    before = children()
    progress, killed = kill_at_first_progress()
    with pytest.raises(nnguard.WorkerError, match="died") as caught:
        nnguard.compress(network, workers=2, spool=tmp_path, progress=progress)
    assert "fewer workers" in caught.value.hint
    assert killed
    assert children() == before
    assert not list(tmp_path.iterdir())


@linux
def test_killed_worker_ends_decompression(stream: nnguard.Stream, tmp_path: Path) -> None:
    before = children()
    target = tmp_path / "model.safetensors"
    work: list[Callable[[Callable[[int], None]], object]] = [
        lambda progress: nnguard.decompress(stream, workers=2, progress=progress),
        lambda progress: nnguard.decompress_to_file(stream, target, workers=2, progress=progress),
    ]
    for decode in work:
        progress, killed = kill_at_first_progress()
        with pytest.raises(nnguard.WorkerError):
            decode(progress)
        assert killed
        assert children() == before
    assert not list(tmp_path.iterdir())


@linux
def test_killed_worker_ends_iteration(stream: nnguard.Stream) -> None:
    before = children()
    tensors = nnguard.iter_tensors(stream, workers=2)
    next(tensors)
    for worker in children() - before:
        os.kill(worker, signal.SIGKILL)
    with pytest.raises(nnguard.WorkerError):
        list(tensors)
    assert children() == before


@linux
def test_error_in_a_worker_is_the_error_of_this_process(network: dict[str, stock.Array]) -> None:
    bad = network["2.weight"].copy()
    bad[-1, -1] = np.nan
    arrays = {**network, "2.weight": bad}
    with pytest.raises(nnguard.ModelError) as here:
        nnguard.compress(arrays, FAST, workers=1)
    before = children()
    with pytest.raises(nnguard.ModelError, match=r"2\.weight.*NaN") as there:
        nnguard.compress(arrays, FAST, workers=2)
    assert str(there.value) == str(here.value)
    assert children() == before


@linux
def test_damage_that_a_worker_finds_is_a_format_error(stream: nnguard.Stream) -> None:
    units = samples.split(bytes(stream))
    at = next(index for index, unit in enumerate(units) if b"3.weight" in unit)
    head = 5 if units[at][0] & 0x80 else 3
    units[at] = samples.unit(samples.NDU, units[at][head : len(units[at]) // 2])
    damaged = nnguard.Stream.from_bytes(b"".join(units))
    before = children()
    for count in (1, 2):
        with pytest.raises(nnguard.FormatError, match=r"3\.weight"):
            nnguard.decompress(damaged, workers=count)
    assert children() == before


@linux
def test_error_of_the_caller_leaves_no_worker(network: dict[str, stock.Array]) -> None:
    before = children()

    def fail(count: int) -> None:
        assert len(children() - before) == 2
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        nnguard.compress(network, workers=2, progress=fail)
    assert children() == before


@linux
def test_workers_are_stopped_in_the_middle_of_their_work() -> None:
    before = children()
    pool = WorkerProcesses(2)
    assert pool.submit(abs, -5).result() == 5
    asleep = [pool.submit(time.sleep, 30) for _ in range(3)]
    until_running(asleep[0])
    pool.shutdown(cancel_futures=True)
    assert isinstance(asleep[0].exception(), BrokenExecutor)
    assert asleep[2].cancelled()
    assert children() == before


def until_running(future: Future[None]) -> None:
    while not future.running():
        time.sleep(0.01)


@linux
def test_workers_finish_what_was_handed_out() -> None:
    before = children()
    pool = WorkerProcesses(2)
    numbers = [pool.submit(pow, 2, exponent) for exponent in range(20)]
    pool.shutdown()
    assert [number.result() for number in numbers] == [2**exponent for exponent in range(20)]
    assert children() == before


@linux
def test_iteration_that_is_given_up_leaves_no_worker(stream: nnguard.Stream) -> None:
    before = children()
    tensors = nnguard.iter_tensors(stream, workers=2)
    name, first = next(tensors)
    assert name == "0.weight"
    assert len(children() - before) == 2
    tensors.close()  # type: ignore[attr-defined]
    assert children() == before
    assert np.isfinite(first).all(), "what was yielded stays"
    for _ in nnguard.iter_tensors(stream, workers=2):
        break
    gc.collect()
    assert children() == before


@linux
def test_iterator_that_is_not_begun_starts_nothing(stream: nnguard.Stream) -> None:
    before = children()
    tensors = nnguard.iter_tensors(stream, workers=2)
    assert children() == before
    assert len(list(tensors)) == 18
    assert children() == before


def test_arrays_outlive_the_stream(stream: nnguard.Stream) -> None:
    copy = nnguard.Stream.from_bytes(bytes(stream))
    found = nnguard.decompress(copy, workers=2)
    del copy
    gc.collect()
    assert same(found, nnguard.decompress(stream, workers=1))
    found["0.weight"][:] = 1
    assert not np.any(found["1.weight"] == 1), "tensors do not share places"


def test_descriptors_are_closed(network: dict[str, stock.Array], stream: nnguard.Stream) -> None:
    folder = Path("/proc/self/fd")
    if not folder.exists():
        pytest.skip("needs /proc")
    nnguard.compress(network, FAST, workers=2)
    gc.collect()
    before = len(list(folder.iterdir()))
    for _ in range(2):
        nnguard.compress(network, FAST, workers=2)
        nnguard.decompress(stream, workers=2)
    gc.collect()
    assert len(list(folder.iterdir())) == before


def test_script_needs_no_guard(tmp_path: Path) -> None:
    """Workers do not run the caller's script again."""
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py", tmp_path / "out.nnc"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("once\n", "", 0)
    assert len(nnguard.Stream.open(tmp_path / "out.nnc")) == 5


def test_script_may_come_from_standard_input(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-", tmp_path / "out.nnc"],
        input=SCRIPT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("once\n", "", 0)


@linux
def test_workers_end_with_their_caller(tmp_path: Path) -> None:
    """Killed, the caller cannot stop them: they end once their input does."""
    script = SCRIPT.replace(
        "counted.append", "lambda _: (print(*children(), flush=True), time.sleep(60))"
    )
    script = (
        "import os, time\nfrom pathlib import Path\n"
        "def children():\n"
        "    return [p.parent.name for p in Path('/proc').glob('[0-9]*/stat')\n"
        "            if p.read_text().rpartition(') ')[2].split()[1] == str(os.getpid())]\n"
        + script
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path / "out.nnc"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    found = [int(number) for number in process.stdout.readline().split()]
    assert len(found) == 2
    process.kill()
    _, complaints = process.communicate(timeout=60)  # ends when the last worker has closed stderr
    assert complaints == ""
    deadline = time.monotonic() + 30
    while any(runs(number) for number in found):
        assert time.monotonic() < deadline, "a worker outlives its caller"
        time.sleep(0.02)
    assert not list(tmp_path.iterdir())


def runs(number: int) -> bool:
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(") ")[2]
    except OSError:
        return False
    return not state.startswith("Z")
