"""The report on locks by another network: the best rate of each start counts, draw by draw."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from carried import found, report

VALUES = {
    "resnet20: sizes": {"release": 600, "weaker": 400, "trial": 1020, "bits": 16},
    "resnet20: release": 91.0,
    "resnet20: weaker": 55.0,
    "resnet20: trial": 55.05,
    "resnet20: trial, key 1": 54.9,
    "resnet20: weaker: 500 labeled, 100 steps, draw 0, rate 0.02": 50.0,
    "resnet20: weaker: 500 labeled, 100 steps, draw 0, rate 0.1": 52.0,
    "resnet20: trial: 500 labeled, 100 steps, draw 0, rate 0.02": 53.0,
    "resnet20: weaker: 500 labeled, 100 steps, draw 1, rate 0.02": 51.0,
    "resnet20: trial: 500 labeled, 100 steps, draw 1, rate 0.02": 49.0,
    "resnet20: weaker: statistics anew, draw 2": 40.0,
    "made": {},
}


def test_the_best_rate_counts() -> None:
    assert found(VALUES, "resnet20") == {
        "500 labeled, 100 steps": {
            "0": {"weaker": 52.0, "trial": 53.0},
            "1": {"weaker": 51.0, "trial": 49.0},
        },
        "statistics anew": {"2": {"weaker": 40.0}},
    }


def test_trials_stand_beside_the_weaker_network() -> None:
    lines = "".join(report(VALUES)).splitlines()
    assert (
        lines[2]
        == "| resnet20 | 91.00 | 55.00 | 54.97 | -0.10 | 2 | 16 | 600 | 400 | 1,020 | +2.00 |"
    )
    assert lines[6:] == ["| resnet20 | 500 labeled, 100 steps | 2 | 51.50 | 51.00 | -0.50 | 1.50 |"]
