"""License servers over SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from postgresql import Server
from shop import Shop, opened


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shop(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    """A shop in each database."""
    if request.param == "sqlite":
        url = str(tmp_path_factory.mktemp("ledger") / "licenses.db")
    else:
        server: Server = request.getfixturevalue("postgresql")
        url = server.url(server.make_database())
    with opened(url, stripe_secret="whsec_test", public_url="https://licenses.example") as found:
        yield found
