"""Threads: the same bytes as without, and none of them is ever left behind."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nnguard
import samples
import stock
from elsewhere import Elsewhere
from nnguard._base.workers import Workers
from nnguard._compression import batches, decoding
from nnguard._compression import decompress as decompressing
from nnguard._compression.batches import make_batches
from nnguard._models.tensors import InMemory
from nnguard._stream import coding
from nnguard._stream.headers import TensorHeader

FAST = nnguard.Settings(qp=-20, dependent=False, parameter_optimization=False)


@pytest.fixture(autouse=True)
def small_models_are_several_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_BATCH", 1 << 16)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert threads() == []


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("nnguard")]


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
    """The network, compressed by the calling thread."""
    return nnguard.compress(network, FAST, workers=1)


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


def test_safetensors_are_read_by_threads(
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
        list(nnguard.iter_tensors(stream, workers=count))
    with pytest.raises(ValueError, match="workers"):
        nnguard.decompress_to_file(stream, tmp_path / "out.safetensors", workers=count)
    assert not list(tmp_path.iterdir())


def test_progress_counts_every_byte(
    network: dict[str, stock.Array], stream: nnguard.Stream
) -> None:
    total = sum(array.nbytes for array in network.values())
    callers = set()
    coded: list[int] = []
    decoded: list[int] = []

    def count(into: list[int], size: int) -> None:
        callers.add(threading.current_thread())
        into.append(size)

    nnguard.compress(network, FAST, workers=2, progress=lambda size: count(coded, size))
    nnguard.decompress(stream, workers=2, progress=lambda size: count(decoded, size))
    assert sum(coded) == sum(decoded) == total
    assert len(coded) > 1
    assert callers == {threading.current_thread()}


# Tensors in blocks are decoded by several threads


@pytest.fixture(scope="module")
def blocks() -> dict[str, stock.Array]:
    rng = np.random.default_rng(7)
    arrays = {
        "large": rng.laplace(0, 0.05, (300, 200)).astype(np.float32),
        "small": rng.laplace(0, 0.05, (9, 9)).astype(np.float32),
        "row": rng.laplace(0, 0.05, (1, 500)).astype(np.float32),
        "bias": rng.normal(0, 1, 70).astype(np.float32),
        "counts": rng.integers(-5, 90, (130, 7), np.int32),
    }
    arrays["large"][100:130] = 0
    return arrays


@pytest.mark.parametrize("dependent", [True, False])
@pytest.mark.parametrize("scan_order", range(1, 5))
@pytest.mark.parametrize("count", [1, 3])
def test_rows_of_blocks_are_decoded_side_by_side(
    count: int,
    scan_order: int,
    dependent: bool,
    blocks: dict[str, stock.Array],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batches, "_BATCH", 1 << 10)
    monkeypatch.setattr(decoding, "_SHARE", 1 << 12)
    settings = nnguard.Settings(qp=-20, scan_order=scan_order, dependent=dependent)
    stream = nnguard.compress(blocks, settings)
    expected = stock.decode(bytes(stream))
    decoded: list[int] = []
    assert same(nnguard.decompress(stream, workers=count, progress=decoded.append), expected)
    assert sum(decoded) == sum(array.nbytes for array in blocks.values())
    assert len(decoded) > len(blocks), "more parts than tensors"
    assert same(dict(nnguard.iter_tensors(stream, workers=count)), expected)
    nnguard.decompress_to_file(stream, tmp_path / "m.safetensors", workers=count)
    again = nnguard.compress(tmp_path / "m.safetensors", FAST)
    assert bytes(again) == bytes(nnguard.compress(_in_file_order(expected), FAST))


def _in_file_order(arrays: dict[str, stock.Array]) -> dict[str, stock.Array]:
    return dict(sorted(arrays.items(), key=lambda item: -item[1].dtype.itemsize))


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("dependent", [True, False])
def test_damage_in_any_row_of_blocks_is_found(
    dependent: bool,
    count: int,
    blocks: dict[str, stock.Array],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also in entry points, of which each thread sees a few only."""
    monkeypatch.setattr(batches, "_BATCH", 1 << 10)
    monkeypatch.setattr(decoding, "_SHARE", 1 << 12)
    settings = nnguard.Settings(qp=-20, scan_order=2, dependent=dependent)
    stream = nnguard.compress({"large": blocks["large"]}, settings)
    header = stream.coded_tensor(3)
    assert header is not None
    assert len(header.entry_points) == 18
    start, size = header.payload_offset, stream[3].size
    for place in (*range(start - 40, start), *range(start, size, 997)):
        damaged = bytearray(bytes(stream))
        damaged[stream[3].offset + place] ^= 0x10
        with pytest.raises(nnguard.errors.FormatError):
            nnguard.decompress(nnguard.Stream.from_bytes(damaged), workers=count)
    with pytest.raises(nnguard.errors.FormatError):
        nnguard.decompress_to_file(
            nnguard.Stream.from_bytes(damaged), tmp_path / "m.safetensors", workers=count
        )
    assert not list(tmp_path.iterdir())


# Threads stop soon


@pytest.fixture(scope="module")
def large() -> dict[str, stock.Array]:
    """Two tensors that take a while, and a small one that is done long before."""
    some = np.random.default_rng(0).normal(0, 1, 1 << 18).astype(np.float32)
    shapes = {"small": (100, 656), "0": (8000, 1000), "1": (8000, 1000)}
    return {name: np.resize(some, shape) for name, shape in shapes.items()}


class Reads:
    """Counts what is read of tensors, and what of it after the work was no longer wanted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.total = self.late = 0
        self.given_up = False
        read = InMemory.read

        def counting(values: InMemory, start: int, stop: int) -> stock.Array:
            self.total += 1
            self.late += self.given_up
            return read(values, start, stop)

        monkeypatch.setattr(InMemory, "read", counting)
        monkeypatch.setattr(coding, "_PIECE", 1 << 10)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    return Reads(monkeypatch)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("dependent", [True, False])
def test_compression_stops_soon_after_an_error_of_the_caller(
    error: type[BaseException],
    dependent: bool,
    large: dict[str, stock.Array],
    reads: Reads,
    tmp_path: Path,
) -> None:
    def fail(count: int) -> None:
        assert len(threads()) == 3
        reads.given_up = True
        raise error

    settings = nnguard.Settings(qp=-20, dependent=dependent)
    with pytest.raises(error):
        nnguard.compress(large, settings, workers=3, spool=tmp_path, progress=fail)
    assert threads() == []
    assert reads.late < 16_000, "of 16,000 pieces that are read two or three times"
    assert not list(tmp_path.iterdir())


def test_compression_stops_soon_after_an_error_in_a_thread(
    large: dict[str, stock.Array], reads: Reads
) -> None:
    bad = np.full((100, 656), np.nan, np.float32)
    with pytest.raises(nnguard.errors.ModelError, match="tensor small has NaN"):
        nnguard.compress({**large, "small": bad}, workers=3)
    assert threads() == []
    assert reads.total < 32_000, "of 48,000"


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_decompression_stops_soon_after_an_error_of_the_caller(
    error: type[BaseException],
    large: dict[str, stock.Array],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = nnguard.compress(large, FAST)
    late = 0
    given_up = False
    write_at = decompressing.write_at

    def counting(file: int, data: Any, offset: int) -> None:
        nonlocal late
        late += given_up
        write_at(file, data, offset)

    def fail(count: int) -> None:
        nonlocal given_up
        given_up = True
        raise error

    monkeypatch.setattr(decompressing, "write_at", counting)
    monkeypatch.setattr(coding, "_PIECE", 1 << 10)
    with pytest.raises(error):
        nnguard.decompress_to_file(stream, tmp_path / "m.safetensors", workers=3, progress=fail)
    assert threads() == []
    assert late < 8000, "of 16,000 pieces"
    assert not list(tmp_path.iterdir())


INTERRUPTED = """
import sys, time
import numpy as np
import nnguard

rng = np.random.default_rng(0)
small = rng.normal(0, 1, (500, 600)).astype(np.float32)
large = [rng.normal(0, 1, (20_000, 1000)).astype(np.float32) for _ in range(2)]
arrays = {"small": small, "a": large[0], "b": large[1]}
try:
    nnguard.compress(
        arrays, workers=3, spool=sys.argv[1], progress=lambda _: print("begun", flush=True)
    )
except KeyboardInterrupt:
    print("stopped", flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_interrupt_ends_a_process_soon(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, tmp_path], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    sent = time.monotonic()
    rest, _ = process.communicate(timeout=60)
    assert (rest, process.returncode) == ("stopped\n", 0)
    assert time.monotonic() - sent < 8, "the whole takes some 20 seconds"
    assert not list(tmp_path.iterdir())


def test_error_in_a_thread_is_the_error_of_the_caller(network: dict[str, stock.Array]) -> None:
    bad = network["2.weight"].copy()
    bad[-1, -1] = np.nan
    arrays = {**network, "2.weight": bad}
    with pytest.raises(nnguard.errors.ModelError) as here:
        nnguard.compress(arrays, FAST, workers=1)
    with pytest.raises(nnguard.errors.ModelError, match=r"2\.weight.*NaN") as there:
        nnguard.compress(arrays, FAST, workers=2)
    assert str(there.value) == str(here.value)


def test_damage_that_a_thread_finds_is_a_format_error(stream: nnguard.Stream) -> None:
    units = samples.split(bytes(stream))
    at = next(index for index, unit in enumerate(units) if b"3.weight" in unit)
    head = 5 if units[at][0] & 0x80 else 3
    units[at] = samples.unit(samples.NDU, units[at][head : len(units[at]) // 2])
    damaged = nnguard.Stream.from_bytes(b"".join(units))
    offsets = set()
    for count in (1, 2):
        with pytest.raises(nnguard.errors.FormatError, match=r"3\.weight") as caught:
            nnguard.decompress(damaged, workers=count)
        offsets.add(caught.value.offset)
    (offset,) = offsets
    assert offset == damaged[at].offset + damaged[at].size, "where the unit ends too early"


def test_iteration_that_is_given_up_leaves_no_thread(stream: nnguard.Stream) -> None:
    tensors = nnguard.iter_tensors(stream, workers=2)
    name, first = next(tensors)
    assert name == "0.weight"
    assert len(threads()) == 2
    tensors.close()  # type: ignore[attr-defined]
    assert threads() == []
    assert np.isfinite(first).all(), "what was yielded stays"
    for _ in nnguard.iter_tensors(stream, workers=2):
        break
    gc.collect()
    assert threads() == []


def test_iteration_that_comes_to_its_end_leaves_no_thread(stream: nnguard.Stream) -> None:
    tensors = nnguard.iter_tensors(stream, workers=2)
    assert threads() == [], "nothing was begun"
    assert len(list(tensors)) == 18
    assert threads() == []


def test_iteration_holds_few_tensors_at_a_time(
    stream: nnguard.Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    decode_pieces = decoding.decode_pieces

    def counting(header: TensorHeader, *args: Any, **options: Any) -> Iterator[Any]:
        begun.append(header.name)
        return decode_pieces(header, *args, **options)

    monkeypatch.setattr(decoding, "decode_pieces", counting)
    tensors = nnguard.iter_tensors(stream, workers=2)
    next(tensors)
    time.sleep(0.2)
    assert 1 <= sum("weight" in name for name in begun) <= 4
    tensors.close()  # type: ignore[attr-defined]


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


# Executors get everything by value


def test_executors_get_everything_by_value(stream: nnguard.Stream, tmp_path: Path) -> None:
    stream.save(tmp_path / "model.nnc")
    opened = nnguard.Stream.open(tmp_path / "model.nnc")
    executor = Elsewhere()
    expected = nnguard.decompress(stream, workers=1)
    assert same(nnguard.decompress(opened, executor=executor), expected)
    assert same(dict(nnguard.iter_tensors(opened, executor=executor)), expected)
    nnguard.decompress_to_file(opened, tmp_path / "model.safetensors", executor=executor)
    path = tmp_path / "model.safetensors"
    coded = nnguard.compress(path, FAST, executor=executor)
    assert bytes(coded) == bytes(nnguard.compress(path, FAST, workers=1))
    assert len(executor.sent) > 20
    for sent in executor.sent:
        assert b"FileSource" not in sent
        assert os.fsencode(tmp_path) not in sent
    assert sum(map(len, executor.sent)) < 4 * (opened.size + path.stat().st_size)
    assert threads() == []


def test_rows_of_blocks_are_decoded_elsewhere(
    blocks: dict[str, stock.Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each part is sent the whole unit, so that there are not too many."""
    monkeypatch.setattr(batches, "_BATCH", 1 << 10)
    monkeypatch.setattr(decoding, "_SHARE", 1)
    stream = nnguard.compress({"w": blocks["large"]}, nnguard.Settings(qp=-20, scan_order=1))
    header = stream.coded_tensor(3)
    assert header is not None
    assert header.block_rows == 38
    executor = Elsewhere()
    found = nnguard.decompress(stream, executor=executor)
    assert same(found, stock.decode(bytes(stream)))
    assert 8 < len(executor.sent) < 38


# Pools


@pytest.mark.parametrize("in_order", [True, False])
def test_executor_that_is_shut_down_meanwhile(*, in_order: bool) -> None:
    """Work that it canceled is never done; who waits for it is told."""
    begun = threading.Event()

    def work(number: int) -> int:
        begun.set()
        time.sleep(0.2)
        return number

    executor = ThreadPoolExecutor(1, thread_name_prefix="executor")
    closing = threading.Thread(
        target=lambda: begun.wait() and executor.shutdown(cancel_futures=True)
    )
    closing.start()
    with (
        Workers(executor=executor).pool(4) as pool,
        pytest.raises(nnguard.errors.WorkerError),
    ):
        list(pool.run(((work, (number,)) for number in range(4)), in_order=in_order))
    closing.join()


@pytest.mark.parametrize("remote", [False, True])
def test_what_was_worked_on_is_let_go(*, remote: bool) -> None:
    class Item:
        alive = 0

        def __init__(self) -> None:
            Item.alive += 1

        def __del__(self) -> None:
            Item.alive -= 1

    most = 0
    with ThreadPoolExecutor(3, thread_name_prefix="executor") as executor:
        workers = Workers(3, executor if remote else None)
        for item in workers.in_order(lambda item: item, (Item() for _ in range(40))):
            del item  # the result, which is let go, too
            gc.collect()
            most = max(most, Item.alive)
    assert most < 10
    assert Item.alive == 0
