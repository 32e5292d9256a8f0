"""Keys and streams that many tests share."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings

import nnguard
import samples

settings.register_profile(
    "default", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("default")


@pytest.fixture(scope="session")
def key() -> nnguard.SigningKey:
    return nnguard.SigningKey.generate()


@pytest.fixture(scope="session")
def other_key() -> nnguard.SigningKey:
    return nnguard.SigningKey.generate()


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
