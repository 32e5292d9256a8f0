"""Settings are checked when they are made, and mean what they say."""

import pickle
from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest

import nnguard

RANGES = [
    ("qp_density", 0, 7),
    ("qp", -128, 127),
    ("nonweight_qp", -128, 127),
    ("unary_length", 1, 256),
    ("bit_depth", 2, 16),
    ("scan_order", 0, 4),
]
FITTING = {"qp": -10, "nonweight_qp": -20}
"""Quantization parameters that every density has."""


WORDS = {
    "qp_density": "the density of quantization parameters",
    "qp": r"the quantization parameter of weights \(at density \d\)",
    "nonweight_qp": r"the quantization parameter of all other tensors \(at density \d\)",
    "unary_length": "the unary length",
    "bit_depth": "the bit depth",
    "scan_order": "the scan order",
}


@pytest.mark.parametrize(("name", "least", "most"), RANGES)
def test_values_out_of_range_are_refused(name: str, least: int, most: int) -> None:
    for value in (least - 1, most + 1, 1 << 40, -(1 << 40)):
        message = f"{WORDS[name]} is {value}; it goes from {least} to {most}"
        with pytest.raises(ValueError, match=message):
            nnguard.Settings(**{name: value})


@pytest.mark.parametrize(("name", "least", "most"), RANGES)
def test_every_value_in_range_is_coded(name: str, least: int, most: int) -> None:
    weights = np.random.default_rng(0).normal(0, 1, (9, 20)).astype(np.float32)
    for value in (least, (least + most) // 2, most):
        options: dict[str, Any] = FITTING | {"dependent": False, name: value}
        settings = nnguard.Settings(**options)
        found = nnguard.decompress(nnguard.compress({"w": weights}, settings))["w"]
        assert found.shape == weights.shape


@pytest.mark.parametrize("name", [name for name, _, _ in RANGES])
@pytest.mark.parametrize("value", [True, 1.0, "1"])
def test_values_are_integers(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"{WORDS[name]} is an integer, not {type(value).__name__}"):
        nnguard.Settings(**{name: value})


@pytest.mark.parametrize("density", range(8))
def test_range_of_the_quantization_parameter_goes_with_the_density(density: int) -> None:
    limit = 32 << density
    for name in ("qp", "nonweight_qp"):
        for value in (-limit, limit - 1):
            options = FITTING | {"qp_density": density, name: value}
            assert getattr(nnguard.Settings(**options), name) == value
        for value in (-limit - 1, limit):
            with pytest.raises(ValueError, match=f"{WORDS[name]} is {value}"):
                nnguard.Settings(**(FITTING | {"qp_density": density, name: value}))


def test_parameter_of_one_tensor() -> None:
    settings = nnguard.Settings(qp=-30, nonweight_qp=-60, qp_per_tensor={"a": -10, "b": 0})
    assert [settings.qp_of("a", dimensions) for dimensions in (0, 1, 2, 4)] == [-10] * 4
    assert settings.qp_of("b", 2) == 0
    assert [settings.qp_of("c", dimensions) for dimensions in (0, 1, 2, 4)] == [-60, -60, -30, -30]


@pytest.mark.parametrize("qp", [-129, 128])
def test_parameter_of_one_tensor_out_of_range_is_refused(qp: int) -> None:
    with pytest.raises(ValueError, match=f"quantization parameter of tensor a .* is {qp}"):
        nnguard.Settings(qp_per_tensor={"a": qp})
    with pytest.raises(TypeError, match=r"of tensor a \(at density 2\) is an integer"):
        nnguard.Settings(qp_per_tensor={"a": 1.5})  # type: ignore[dict-item]


def test_parameter_of_a_tensor_that_is_not_there_is_refused() -> None:
    settings = nnguard.Settings(qp_per_tensor={"w": -20, "misspelled": -20})
    with pytest.raises(ValueError, match=r"not there.*misspelled"):
        nnguard.compress({"w": np.ones((2, 2), np.float32)}, settings)


def test_settings_do_not_change() -> None:
    given = {"a": -10}
    settings = nnguard.Settings(qp_per_tensor=given)
    given["a"] = 5
    assert settings.qp_of("a", 2) == -10
    with pytest.raises(TypeError):
        settings.qp_per_tensor["a"] = 5  # type: ignore[index]
    with pytest.raises(FrozenInstanceError):
        settings.qp = 5  # type: ignore[misc]


def test_settings_go_to_other_processes() -> None:
    settings = nnguard.Settings(qp=-20, qp_per_tensor={"a": -10}, dependent=False, bit_depth=8)
    assert pickle.loads(pickle.dumps(settings)) == settings
    assert replace(settings, qp=-21) != settings


def test_lower_parameters_are_finer() -> None:
    weights = np.random.default_rng(0).laplace(0, 0.1, (40, 50)).astype(np.float32)
    sizes, errors = [], []
    for qp in (-20, -30, -40):
        stream = nnguard.compress({"w": weights}, nnguard.Settings(qp=qp))
        sizes.append(stream.size)
        errors.append(float(np.abs(nnguard.decompress(stream)["w"] - weights).max()))
    assert sizes == sorted(sizes)
    assert errors == sorted(errors, reverse=True)


def test_bit_depth_bounds_the_indices() -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "signed": rng.normal(0, 1, (50, 60)).astype(np.float32),
        "positive": rng.uniform(0, 1, (50, 60)).astype(np.float32),
        "bias": rng.normal(0, 1, 500).astype(np.float32),
    }
    settings = nnguard.Settings(bit_depth=4, dependent=False)
    found = nnguard.decompress(nnguard.compress(arrays, settings))
    for name, most in (("signed", 16), ("positive", 16), ("bias", 256)):
        levels = np.unique(found[name])
        assert most // 2 < len(levels) <= most
    assert found["positive"].min() >= 0
