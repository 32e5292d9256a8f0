"""Draw the pictures of README and documentation from streams that come with the project.

    make pictures

Those of `docs/results.md` are drawn from its numbers; `make paper` makes these, in hours.
"""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

import nnguard
from model import accuracy
from nnguard.plotting import plot_carrier, plot_search
from paper.page import Page, draw

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "pictures"
DIGITS = ROOT / "examples" / "digits"


def main() -> None:
    """Draw them all."""
    draw_carrier(PICTURES / "carrier.png")
    draw_search(PICTURES / "search.png")
    results = json.loads((ROOT / "docs" / "results.json").read_text(encoding="utf-8"))
    draw(Page(results), PICTURES)


def draw_carrier(path: Path) -> None:
    """Draw what a signature does to a ResNet20, with a fixed key: the same picture each time."""
    golden = ROOT / "tests" / "golden" / "0.1.0"
    passphrase = json.loads((golden / "expected.json").read_text(encoding="utf-8"))["passphrase"]
    key = nnguard.SigningKey.load(golden / "vendor.key", passphrase=passphrase)
    model = ROOT / "tests" / "streams" / "resnet20.urq38.nnc"
    issued_at = datetime(2026, 1, 1, tzinfo=timezone.utc)
    release = nnguard.sign(
        model, key, issuer="acme.ai", name="resnet20", version="1.0", issued_at=issued_at
    )
    plot_carrier(release, path, overwrite=True)


def draw_search(path: Path) -> None:
    """Draw two tiers of the network for digits; other weights are drawn each time."""
    test = np.load(DIGITS / "digits_test.npz")
    tiers = [
        nnguard.Tier("professional", soft=nnguard.Soft(target=0.9, max_fraction=0.05)),
        nnguard.Tier("trial", soft=nnguard.Soft(target=0.4, max_fraction=0.05)),
    ]
    locks = nnguard.lock_tiers(
        DIGITS / "digits.nnc",
        tiers,
        evaluate=lambda weights: accuracy(weights, test["images"], test["labels"]),
    )
    plot_search(locks, path, overwrite=True)


if __name__ == "__main__":
    main()
