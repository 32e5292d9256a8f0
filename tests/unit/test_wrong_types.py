"""Arguments of the wrong type: the error names the argument and what it expects."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

import nnguard
import samples
from nnguard import licensing

KEY = nnguard.SigningKey.generate()
MODEL = nnguard.compress(samples.small_network(2_000))


@pytest.mark.parametrize("expect", ["small", {"name": "small"}])
def test_expect_is_an_expect(expect: Any) -> None:
    release = nnguard.sign(MODEL, KEY, name="small")
    with pytest.raises(TypeError, match=f"expect: expected an Expect, not {type(expect).__name__}"):
        nnguard.verify(release, KEY.public_key, expect=expect)


@pytest.mark.parametrize("settings", [-38, 0, {"qp": -38}])
def test_settings_are_settings(settings: Any) -> None:
    with pytest.raises(TypeError, match="settings: expected a Settings, not"):
        nnguard.compress(samples.small_network(2_000), settings)


@pytest.mark.parametrize("payload", ["text", 3, None])
def test_payload_is_bytes(payload: Any) -> None:
    with pytest.raises(TypeError, match="payload: expected bytes, not"):
        nnguard.attach(MODEL, payload)


def test_age_is_a_timedelta() -> None:
    days: Any = 30
    with pytest.raises(TypeError, match="max_age: expected a timedelta, not int"):
        licensing.Policy(max_age=days)
    assert licensing.Policy(max_age=timedelta(days)).max_age == timedelta(30)
