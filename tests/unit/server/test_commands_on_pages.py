"""Commands that pages of the license server show are ones that there are."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import click
import pytest

from nnguard._cli.commands import NNGUARD

TEMPLATES = Path(str(files("nnguard._server.pages"))) / "templates"
BLOCK = re.compile(r"<pre[^>]*><code>nnguard ([^<]+)</code>")
COMMANDS = [
    re.sub(r"{{[^}]*}}", "CODE", block).replace("\\\n", " ").split()
    for path in sorted(TEMPLATES.rglob("*.html"))
    for block in BLOCK.findall(path.read_text())
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_is_understood(words: list[str]) -> None:
    found: click.Command | None = NNGUARD
    context = click.Context(NNGUARD)
    while isinstance(found, click.Group):
        found, words = found.get_command(context, words[0]), words[1:]
    assert found is not None
    found.make_context("nnguard", words)


def test_pages_show_commands() -> None:
    assert len(COMMANDS) >= 3
