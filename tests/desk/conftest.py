"""A shop, and a browser, that the tests of pages share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import chromium
import shop as shops


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[shops.Shop]:
    with shops.opened(str(tmp_path_factory.mktemp("shop") / "ledger.db")) as shop:
        yield shop


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Browser]:
    """A browser; while it is there, no other event loop runs in this thread."""
    if not chromium.CHROMIUM:
        pytest.skip(chromium.WHY_NOT)
    with chromium.started(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser
