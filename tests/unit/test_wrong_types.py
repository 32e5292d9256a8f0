"""Arguments of the wrong type: the error names the argument and what it expects."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import nnguard
import samples
from nnguard import licensing
from nnguard.errors import ArgumentError

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


@pytest.mark.parametrize("policy", [3, licensing.Policy(), {"version": 1}])
def test_policy_is_a_trust_policy(policy: Any) -> None:
    release = nnguard.sign(MODEL, KEY, name="small")
    with pytest.raises(TypeError, match="policy: expected a path or a TrustPolicy, not"):
        nnguard.verify(release, policy=policy)


@pytest.mark.parametrize("payload", ["text", 3, None])
def test_payload_is_bytes(payload: Any) -> None:
    with pytest.raises(TypeError, match="payload: expected bytes, not"):
        nnguard.attach(MODEL, payload)


def test_age_is_a_timedelta() -> None:
    days: Any = 30
    with pytest.raises(TypeError, match="max_age: expected a timedelta, not int"):
        licensing.Policy(max_age=days)
    assert licensing.Policy(max_age=timedelta(days)).max_age == timedelta(30)


@pytest.mark.parametrize("metadata", [["a"], "a=b", 5, {"a": 1}])
def test_metadata_is_text_to_text(metadata: Any) -> None:
    with pytest.raises(TypeError, match="metadata: expected"):
        nnguard.sign(MODEL, KEY, metadata=metadata)
    with pytest.raises(TypeError, match="metadata: expected"):
        licensing.Terms(metadata=metadata)


@pytest.mark.parametrize("claim", ["issuer", "name", "version"])
def test_claims_are_not_pages(claim: str) -> None:
    """They go into the weights; 1,024 bytes of UTF-8 are enough for a name."""
    options: dict[str, Any] = {claim: "\xfc" * 512}
    nnguard.sign(MODEL, KEY, **options)
    options[claim] += "x"
    with pytest.raises(ArgumentError, match=f"{claim}: a text of 1,025 bytes; limit 1,024"):
        nnguard.sign(MODEL, KEY, **options)
    with pytest.raises(ArgumentError, match="metadata: a text of 2,000 bytes"):
        nnguard.sign(MODEL, KEY, metadata={"readme": "x" * 2000})


def test_soft_is_a_soft() -> None:
    soft: Any = True
    with pytest.raises(TypeError, match="soft: expected a Soft, not bool"):
        nnguard.lock(MODEL, soft=soft)


def test_file_of_text_is_named_as_what_it_is(tmp_path: Path) -> None:
    MODEL.save(tmp_path / "model.nnc")
    with (tmp_path / "model.nnc").open(encoding="latin-1") as file:
        opened: Any = file
        with pytest.raises(TypeError, match='model: a file of text; open it in binary mode, "rb"'):
            nnguard.inspect(opened)


@pytest.mark.parametrize("path", [None, 5, b"model.nnc"])
def test_what_is_saved_gets_a_path(path: Any) -> None:
    streams = nnguard.StreamSet.of({"a.nnc": MODEL})
    for save in (MODEL.save, streams.save, lambda path: nnguard.decompress_to_file(MODEL, path)):
        with pytest.raises(TypeError, match=r"(path|folder): expected a path, not"):
            save(path)


def test_empty_path_is_not_this_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nnguard.StreamSet.of({"a.nnc": MODEL}).save(tmp_path / "set")
    monkeypatch.chdir(tmp_path / "set")
    with pytest.raises(FileNotFoundError):
        nnguard.inspect("")
    with pytest.raises(FileNotFoundError):
        nnguard.compress("")
    with pytest.raises(ArgumentError, match="the path is empty"):
        MODEL.save("")


def test_file_that_exists_says_how_to_replace_it(tmp_path: Path) -> None:
    for model in (MODEL, nnguard.StreamSet.of({"a.nnc": MODEL})):
        model.save(tmp_path / type(model).__name__)
        with pytest.raises(FileExistsError, match="exists already; overwrite=True replaces it"):
            model.save(tmp_path / type(model).__name__)
