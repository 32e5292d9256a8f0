"""Errors cross processes whole, and so does what verbs return."""

from __future__ import annotations

import inspect
import logging
import pickle

import pytest

import nnguard
from nnguard import errors

KINDS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.NnguardError)
]
MORE = {
    errors.ActivationError: {"reason": errors.ActivationReason.NO_SEATS},
    errors.CapacityError: {"needed": 9, "available": 8},
    errors.LicenseError: {"reason": errors.Refusal.EXPIRED},
    errors.PolicyError: {"reason": errors.PolicyReason.THRESHOLD},
    errors.VerificationError: {"tensors": ["a", "b"]},
    errors.FormatError: {"offset": 7},
}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_errors_cross_processes(kind: type[errors.NnguardError]) -> None:
    error = kind("what happened", hint="what to do", **MORE.get(kind, {}))
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert (str(again), vars(again)) == (str(error), vars(error))
    assert again.hint == "what to do"


def test_wrong_arguments_are_value_errors_too() -> None:
    assert issubclass(errors.ArgumentError, ValueError)
    with pytest.raises(errors.ArgumentError, match="either a fraction or a target"):
        nnguard.Soft(fraction=0.1, target=0.2)


def test_reprs_are_short(release: nnguard.Stream, key: nnguard.SigningKey) -> None:
    report = nnguard.verify(release, key.public_key)
    for value in (release, report, nnguard.inspect(release), nnguard.capacity(release)):
        assert len(repr(value)) < 600
    assert "<td>" in report._repr_html_()
    assert "<td>" in nnguard.inspect(release)._repr_html_()


def test_tables_show_what_a_file_says_as_text(
    model: nnguard.Stream, key: nnguard.SigningKey
) -> None:
    release = nnguard.sign(model, key, name="<script>alert(1)</script>")
    assert "<script>" not in nnguard.verify(release, key.public_key)._repr_html_()
    assert "<script>" not in nnguard.inspect(release)._repr_html_()


def test_log_says_what_was_verified(
    release: nnguard.Stream, key: nnguard.SigningKey, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "nnguard"):
        nnguard.verify(release, key.public_key)
    assert key.public_key.id.hex() in caplog.text


@pytest.mark.parametrize("verb", ["verify", "strip", "decompress", "inspect", "capacity", "sign"])
def test_wrong_type_names_the_argument(verb: str, key: nnguard.SigningKey) -> None:
    more = {"verify": [key.public_key], "strip": [key.public_key], "sign": [key]}.get(verb, [])
    with pytest.raises(TypeError, match=r"model: expected .*, not int"):
        getattr(nnguard, verb)(7, *more)


@pytest.mark.parametrize("kind", ["path", "bytes", "file", "memoryview"])
def test_streams_as_people_have_them(
    release: nnguard.Stream, key: nnguard.SigningKey, tmp_path: pytest.TempPathFactory, kind: str
) -> None:
    path = tmp_path / "release.nnc"  # type: ignore[operator]
    release.save(path)
    data = path.read_bytes()
    with path.open("rb") as file:
        given = {"path": path, "bytes": data, "file": file, "memoryview": memoryview(data)}[kind]
        assert nnguard.verify(given, key.public_key)


def test_names_of_the_package() -> None:
    found = {}
    exec("from nnguard import *", found)
    assert {*nnguard.__all__} <= {*found}
    assert dict(inspect.getmembers(nnguard)).keys() >= {*nnguard.__all__}
    with pytest.raises(AttributeError, match="verrify"):
        nnguard.verrify()
