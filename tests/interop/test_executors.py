"""Executors of other packages code tensors too, to the same bytes."""

from __future__ import annotations

import multiprocessing
import os
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import nnguard
import stock
from nnguard._base.workers import Workers
from nnguard._locking.opening import open_files
from nnguard._records.hashed import hash_files

SETTINGS = nnguard.Settings(qp=-20, qp_per_tensor={"1.weight": -24}, dependent=False)


@contextmanager
def threads() -> Iterator[Executor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


@contextmanager
def processes() -> Iterator[Executor]:
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as executor:
        yield executor


@contextmanager
def dask() -> Iterator[Executor]:
    distributed = pytest.importorskip("distributed", reason="Dask's distributed is an extra")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cluster = distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50
        )
        with cluster, distributed.Client(cluster) as client:
            yield client.get_executor()


EXECUTORS: dict[str, Callable[[], object]] = {
    "threads": threads,
    "processes": processes,
    "dask": dask,
}


@pytest.fixture(params=list(EXECUTORS), scope="module")
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    with EXECUTORS[request.param]() as executor:  # type: ignore[attr-defined]
        yield executor


@pytest.fixture(scope="module")
def network() -> dict[str, stock.Array]:
    rng = np.random.default_rng(8)
    arrays: dict[str, stock.Array] = {}
    for at in range(3):
        arrays[f"{at}.weight"] = rng.laplace(0, 0.05, (1000, 200 + at)).astype(np.float32)
        arrays[f"{at}.scale"] = rng.normal(0, 1, 50).astype(np.float16)
        arrays[f"{at}.steps"] = np.array(1 << 40, np.int64)
    return arrays


def test_bytes_are_the_same(
    executor: Executor, network: dict[str, stock.Array], tmp_path: Path
) -> None:
    expected = bytes(nnguard.compress(network, SETTINGS, workers=1))
    coded: list[int] = []
    stream = nnguard.compress(network, SETTINGS, executor=executor, progress=coded.append)
    assert bytes(stream) == expected
    assert sum(coded) == sum(array.nbytes for array in network.values())
    spooled = nnguard.compress(network, SETTINGS, executor=executor, workers=1, spool=tmp_path)
    assert bytes(spooled) == expected


def test_arrays_are_the_same(
    executor: Executor, network: dict[str, stock.Array], tmp_path: Path
) -> None:
    stream = nnguard.compress(network, SETTINGS, workers=1)
    stream.save(tmp_path / "model.nnc")
    expected = nnguard.decompress(stream, workers=1)
    for source in (stream, nnguard.Stream.open(tmp_path / "model.nnc")):
        for found in (
            nnguard.decompress(source, executor=executor),
            dict(nnguard.iter_tensors(source, executor=executor, workers=2)),
        ):
            assert list(found) == list(expected)
            for name, array in expected.items():
                assert found[name].dtype == array.dtype == network[name].dtype
                assert found[name].shape == array.shape
                assert np.array_equal(found[name], array)


def test_files_are_the_same(
    executor: Executor, network: dict[str, stock.Array], tmp_path: Path
) -> None:
    stream = nnguard.compress(network, SETTINGS, workers=1)
    here, there = tmp_path / "here.safetensors", tmp_path / "there.safetensors"
    nnguard.decompress_to_file(stream, here, workers=1)
    nnguard.decompress_to_file(stream, there, executor=executor)
    assert here.read_bytes() == there.read_bytes()
    streams = [
        bytes(nnguard.compress(here, SETTINGS, workers=1)),
        bytes(nnguard.compress(here, SETTINGS, executor=executor)),
    ]
    assert streams[0] == streams[1]


def test_errors_keep_their_kind_and_their_words(
    executor: Executor, network: dict[str, stock.Array]
) -> None:
    bad = network["1.weight"].copy()
    bad[7, 7] = np.nan
    with pytest.raises(nnguard.errors.ModelError, match=r"^tensor 1\.weight has NaN$"):
        nnguard.compress({**network, "1.weight": bad}, SETTINGS, executor=executor)
    assert nnguard.compress(network, SETTINGS, executor=executor), "the executor is still of use"


def test_caller_keeps_the_executor(executor: Executor, network: dict[str, stock.Array]) -> None:
    stream = nnguard.compress(network, SETTINGS, executor=executor)
    tensors = nnguard.iter_tensors(stream, executor=executor)
    next(tensors)
    tensors.close()  # type: ignore[attr-defined]
    assert executor.submit(abs, -5).result(timeout=30) == 5


def test_executor_whose_process_died(network: dict[str, stock.Array]) -> None:
    stream = nnguard.compress(network, SETTINGS, workers=1)
    with processes() as executor:
        assert isinstance(executor.submit(os._exit, 9).exception(timeout=30), BrokenExecutor)
        with pytest.raises(nnguard.errors.WorkerError, match="died"):
            nnguard.decompress(stream, executor=executor)
        with pytest.raises(nnguard.errors.WorkerError, match="died"):
            nnguard.compress(network, SETTINGS, executor=executor)


def test_locks_open(executor: Executor, network: dict[str, stock.Array]) -> None:
    release = nnguard.compress({"1.weight": -network["1.weight"]}, SETTINGS)
    trial = nnguard.compress({**network, "3.weight": network["0.weight"] / 2}, SETTINGS)
    for options in ({"trial": trial}, {"scramble": 0.5}):
        locked = nnguard.lock(release, executor=executor, **options)  # type: ignore[arg-type]
        workers = Workers(count=1, executor=executor)
        found = open_files(hash_files(locked.trial), locked.content_key, workers=workers)
        assert bytes(found.files[""].stream) == bytes(release)
