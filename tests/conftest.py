"""Keys and streams that many tests share."""

from __future__ import annotations

import functools
import signal
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, get_args

import pytest
from hypothesis import HealthCheck, settings

import nnguard
import samples
import softhsm
from nnguard._crypto.keys import AlgorithmName

if TYPE_CHECKING:
    from postgresql import Server

settings.register_profile(
    "default", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("default")


def pytest_configure() -> None:
    """Let commands that tests start heed signals which the tests' parent ignores, as nohup does.

    What is ignored is inherited; a handler is not.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


@pytest.fixture(scope="session")
def key() -> nnguard.SigningKey:
    return nnguard.SigningKey.generate()


@pytest.fixture(scope="session")
def other_key() -> nnguard.SigningKey:
    return nnguard.SigningKey.generate()


@pytest.fixture(scope="session", params=get_args(AlgorithmName))
def each_key(request: pytest.FixtureRequest) -> nnguard.SigningKey:
    """A key of every algorithm, one after the other."""
    return nnguard.SigningKey.generate(request.param)


@pytest.fixture(scope="session")
def roomy() -> nnguard.Stream:
    """A small stream with room for a signature of any algorithm."""
    return nnguard.Stream.from_bytes(samples.small_stream(weights=9000))


@pytest.fixture(scope="session")
def model() -> nnguard.Stream:
    """A small stream that is not signed."""
    return nnguard.Stream.from_bytes(samples.small_stream())


@pytest.fixture(scope="session")
def release(model: nnguard.Stream, key: nnguard.SigningKey) -> nnguard.Stream:
    """The small stream, signed."""
    return nnguard.sign(model, key, issuer="acme.ai", name="small", version="1.0")


@pytest.fixture(scope="session")
def signed(key: nnguard.SigningKey) -> Callable[[str], nnguard.Stream]:
    """Sign a stock stream, once for all tests."""

    @functools.cache
    def sign(name: str) -> nnguard.Stream:
        return nnguard.sign(samples.path_of(name), key, issuer="acme.ai", name=name)

    return sign


@pytest.fixture(scope="session")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[softhsm.Token]:
    """A token with keys of each algorithm, named as these; another one, "second", needs a login."""
    if not softhsm.MODULE:
        pytest.skip(softhsm.WHY_NOT)
    with softhsm.started(tmp_path_factory.mktemp("softhsm")):
        for label in ("vendor", "second", "twin", "twin"):
            softhsm.initialize(label)
        second = softhsm.log_in("second")
        second.generate("release")
        second.session.close()
        token = softhsm.log_in("vendor")
        for algorithm in softhsm.CURVES:
            token.generate(algorithm, algorithm)
        for key_id in (b"1", b"2"):
            token.generate("two", "p256", key_id)
        yield token


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A PostgreSQL server, of which `fresh_url()` is an empty database."""
    import postgresql as servers

    with servers.running_server() as server:
        yield server
