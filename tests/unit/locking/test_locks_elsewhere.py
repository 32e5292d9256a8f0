"""Executors lock and unlock: what they are sent, and what comes back."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nnguard
import samples
from elsewhere import Elsewhere
from nnguard import licensing
from nnguard._base import workers as base
from nnguard._base.workers import Workers
from nnguard._hiding import extract
from nnguard._locking.opening import open_files
from nnguard._models.stream_set import StreamSet, streams_of
from nnguard._records.hashed import hash_files

LARGE = 20000
"""Weights of a matrix that is worth sending."""


def network(seed: int, *, matrices: int = 3, rows: int = 100, at: int = 0) -> nnguard.Stream:
    rng = np.random.default_rng(seed)
    shape = (rows, LARGE // rows)
    arrays = {f"{at}.{each}.weight": rng.laplace(0, 0.1, shape) for each in range(matrices)}
    arrays[f"{at}.bias"] = rng.normal(0, 1, rows)
    floats = {name: array.astype(np.float32) for name, array in arrays.items()}
    return nnguard.compress(floats, nnguard.Settings(qp=-24))


@pytest.fixture(scope="module")
def weaker() -> nnguard.Stream:
    return network(2, matrices=5)


@pytest.fixture(scope="module")
def release(key: nnguard.SigningKey) -> nnguard.Stream:
    return nnguard.sign(network(1), key, issuer="acme.ai", name="small")


def opened(locked: nnguard.Locked, executor: Elsewhere) -> dict[str, bytes]:
    files = hash_files(locked.trial)
    found = open_files(files, locked.content_key, workers=Workers(executor=executor)).files
    return {name: bytes(file.stream) for name, file in found.items()}


@pytest.mark.parametrize("kind", ["trial", "scramble", "soft"])
def test_executors_lock_and_unlock(
    kind: str, release: nnguard.Stream, weaker: nnguard.Stream
) -> None:
    options = {
        "trial": {"trial": weaker},
        "scramble": {"scramble": ["*.weight"]},
        "soft": {"soft": nnguard.Soft(fraction=0.001)},
    }[kind]
    executor = Elsewhere()
    locked = nnguard.lock(release, executor=executor, **options)  # type: ignore[arg-type]
    handed_out = len(executor.sent)
    assert handed_out > 1
    assert opened(locked, executor) == {"": bytes(release)}
    assert len(executor.sent) > handed_out
    here = nnguard.lock(release, **options)  # type: ignore[arg-type]
    assert opened(here, executor) == {"": bytes(release)}
    assert not any(locked.content_key.secret in sent for sent in executor.sent)


def test_executors_open_licenses(
    release: nnguard.Stream, weaker: nnguard.Stream, key: nnguard.SigningKey, tmp_path: Path
) -> None:
    locked = nnguard.lock(release, trial=weaker, signer=key)
    locked.trial.save(tmp_path / "trial.nnc")
    ada = nnguard.Identity.generate()
    given = licensing.issue(locked.trial, locked.content_key, to=ada.recipient, signer=key)
    executor = Elsewhere()
    found = nnguard.unlock(
        tmp_path / "trial.nnc", given, ada, [key.public_key], executor=executor, workers=2
    )
    assert bytes(streams_of(found)[""]) == bytes(release)
    carriers = extract(streams_of(locked.trial)[""]).header.carriers
    assert len(executor.sent) >= len(carriers)
    for sent in executor.sent:
        assert os.fsencode(tmp_path) not in sent
        assert locked.content_key.secret not in sent


def test_executors_open_sets() -> None:
    parts = {f"model-{at}.nnc": network(at, matrices=2, at=at) for at in (3, 4)}
    given = {name: network(at, matrices=5, at=at) for at, name in enumerate(parts, 5)}
    executor = Elsewhere()
    locked = nnguard.lock(StreamSet.of(parts), trial=StreamSet.of(given), executor=executor)
    assert opened(locked, executor) == {name: bytes(each) for name, each in parts.items()}


def test_damage_has_its_offset(release: nnguard.Stream, weaker: nnguard.Stream) -> None:
    """An executor says where a damaged tensor lies in the stream, as threads do."""
    locked = nnguard.lock(release, trial=weaker)
    trial = streams_of(locked.trial)[""]
    data, unit = bytearray(bytes(trial)), trial[extract(trial).header.carriers[-1]]
    data[unit.offset + unit.size - 40 : unit.offset + unit.size] = b"\xff" * 40
    files = hash_files(nnguard.Stream.from_bytes(bytes(data)))
    messages = []
    for workers in (Workers(), Workers(executor=Elsewhere())):
        with pytest.raises(nnguard.errors.NnguardError) as caught:
            open_files(files, locked.content_key, workers=workers)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert "at byte" in messages[0]


@pytest.mark.parametrize("call", [nnguard.lock, nnguard.lock_tiers])
def test_no_workers(call: object, release: nnguard.Stream) -> None:
    tiers = [] if call is nnguard.lock else [[nnguard.Tier("full")]]
    with pytest.raises(nnguard.errors.ArgumentError, match="there has to be one at least"):
        call(release, *tiers, workers=0)  # type: ignore[operator]


def test_small_tensors_stay_here(key: nnguard.SigningKey) -> None:
    """A signature in a small tensor is read before it could have been sent."""
    release = nnguard.sign(nnguard.Stream.from_bytes(samples.small_stream()), key)
    executor = Elsewhere()
    taken = extract(release, workers=Workers(executor=executor))
    assert taken.record
    assert taken.original.sha256_of_units()
    assert not executor.sent


class Dying(Elsewhere):
    """Does so much work, and then has no workers any more."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def submit(self, work: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        if len(self.sent) == self._most:
            raise BrokenExecutor
        return super().submit(work, *args, **options)


@pytest.mark.parametrize("kind", ["trial", "scramble"])
def test_executor_that_dies(kind: str, release: nnguard.Stream, weaker: nnguard.Stream) -> None:
    """After any number of tensors, of a lock as of its opening."""
    whole = Elsewhere()
    options: dict[str, Any] = {"trial": {"trial": weaker}, "scramble": {"scramble": 1.0}}[kind]
    locked = nnguard.lock(release, executor=whole, **options)
    locking = len(whole.sent)
    opened(locked, whole)
    opening = len(whole.sent) - locking
    assert min(locking, opening) > 1
    for most in range(locking):
        with pytest.raises(nnguard.errors.WorkerError):
            nnguard.lock(release, executor=Dying(most), **options)
    for most in range(opening):
        with pytest.raises(nnguard.errors.WorkerError):
            opened(locked, Dying(most))


class Holding(ThreadPoolExecutor):
    """Counts what it has in hand."""

    def __init__(self) -> None:
        super().__init__(2)
        self.most = self._now = 0
        self._counting = threading.Lock()

    def submit(self, work: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        with self._counting:
            self._now += 1
            self.most = max(self.most, self._now)
        future = super().submit(work, *args, **options)
        future.add_done_callback(self._done)
        return future

    def _done(self, _: Future[Any]) -> None:
        with self._counting:
            self._now -= 1


@pytest.mark.parametrize("count", [1, 3])
def test_executor_has_so_many_in_hand(count: int) -> None:
    with Holding() as executor:
        found = Workers(count, executor).in_order(abs, range(-20, 0))
        assert [*found] == [*range(20, 0, -1)]
    assert executor.most <= count


@pytest.mark.parametrize("kind", ["trial", "scramble", "soft"])
def test_one_thread_is_the_callers(
    kind: str, release: nnguard.Stream, weaker: nnguard.Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {
        "trial": {"trial": weaker},
        "scramble": {"scramble": 1.0},
        "soft": {"soft": nnguard.Soft(fraction=0.001)},
    }[kind]
    monkeypatch.setattr(base, "_processors", lambda: 2)
    monkeypatch.setattr(base, "ThreadPoolExecutor", no_pool)
    locked = nnguard.lock(release, workers=1, **options)
    files = hash_files(locked.trial)
    found = open_files(files, locked.content_key, workers=Workers(1)).files
    assert bytes(found[""].stream) == bytes(release)
    with pytest.raises(AssertionError, match="a pool"):
        open_files(files, locked.content_key)


def no_pool(*_: object, **__: object) -> None:
    raise AssertionError("a pool was made")
