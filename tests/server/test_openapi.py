"""What the OpenAPI document says is so: Schemathesis tries, `make fuzz-server` for longer."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from shop import Shop, opened

EXAMPLES = int(os.environ.get("NNGUARD_EXAMPLES", "3"))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
]
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "server.md"
AUDITORS = ("/v1/audit", "/metrics")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    url = str(tmp_path_factory.mktemp("fuzz") / "licenses.db")
    with opened(url, stripe_secret="whsec_test", guess_rate="1000000/minute") as found:
        yield found


def checked(operation: Any, mode: GenerationMode, headers: dict[str, str]) -> Callable[[], None]:
    """Return what tries an operation."""

    @settings(
        max_examples=EXAMPLES, deadline=None, suppress_health_check=[*HealthCheck], database=None
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        case.call_and_validate(headers=headers, checks=CHECKS)

    return check


@pytest.mark.parametrize("mode", [*GenerationMode], ids=lambda mode: mode.value)
def test_it_does_what_its_document_says(shop: Shop, mode: GenerationMode) -> None:
    """Requests as the document has them, and such as it does not."""
    document = schemathesis.openapi.from_url(f"{shop.server.url}/openapi.json")
    for found in document.get_all_operations():
        operation = found.ok()
        role = "auditor" if operation.path in AUDITORS else "support"
        check = checked(operation, mode, {"Authorization": f"Bearer {shop.secrets[role]}"})
        with contextlib.suppress(Unsatisfiable):  # what takes nothing, can be given nothing wrong
            check()
    assert not [line for line in shop.server.events("request") if line["status"] == 500]


def test_the_document_is_one(shop: Shop) -> None:
    document = httpx.get(f"{shop.server.url}/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    for path, operations in document["paths"].items():
        assert not path.startswith(("/desk", "/order", "/assets"))
        for operation in operations.values():
            assert operation["description"], path
            for status, answer in operation["responses"].items():
                if int(status) >= 400:
                    assert [*answer["content"]] == ["application/problem+json"], path
            if path.startswith(("/v1/orders", "/v1/seats", "/v1/audit", "/v1/products")):
                assert operation["security"] == [{"token": []}], path


def table_of(name: str) -> list[list[str]]:
    """Return the rows of a table of the page."""
    text = PAGE.read_text(encoding="utf-8").partition(f"<!-- {name} -->")[2]
    rows = text.partition(f"<!-- /{name} -->")[0].strip().splitlines()[2:]
    return [[cell.strip(" `") for cell in row.strip("|").split(" | ")] for row in rows]


def test_the_page_has_every_endpoint(shop: Shop) -> None:
    document = httpx.get(f"{shop.server.url}/openapi.json").json()
    wanted = [
        [f"{method.upper()} {path}", operation["description"].partition(".")[0] + "."]
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]
    listed = table_of("endpoints")
    assert sorted([name, does.strip()] for name, _, does in listed) == sorted(
        [name, " ".join(does.split())] for name, does in wanted
    )
    for name, who, _ in listed:
        method, _, path = name.partition(" ")
        secured = "security" in document["paths"][path][method.lower()]
        assert secured == ("support" in who or "auditor" in who)


def test_the_page_has_every_metric(shop: Shop) -> None:
    headers = {"Authorization": f"Bearer {shop.secrets['auditor']}"}
    text = httpx.get(f"{shop.server.url}/metrics", headers=headers).text
    helped = dict(re.findall(r"^# HELP (nnguard_\w+?) (.*)$", text, flags=re.MULTILINE))
    created = {name: about for name, about in helped.items() if not name.endswith("_created")}
    listed = table_of("metrics")
    assert {name: about.partition(" By ")[0] for name, about in listed} == created
