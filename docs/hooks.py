"""What the site needs beyond MkDocs: links that leave `docs/`, decisions, and the help of commands.

On the code host a page links to `../SECURITY.md` or `../examples/demo.py`. The site has no such
files, so every file that is linked to becomes a page below `project/`, and links are rewritten to
it. A link to a file that does not exist stays as it is, which fails the strict build.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

from nnguard._cli.commands import NNGUARD

__all__ = ["on_config", "on_files", "on_page_markdown"]

_ROOT = Path(__file__).parents[1]
_ALWAYS = ["CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"]
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)")
_COMMANDS = "<!-- commands -->"
_LANGUAGES = {".py": "python", ".toml": "toml", ".yml": "yaml", ".json": "json"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List the decisions below the entry that names their folder."""
    _expand(config.nav or [], Path(config.docs_dir))
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the files outside `docs/` that pages link to, and those that these link to in turn."""
    waiting = [f"docs/{file.src_uri}" for file in files.documentation_pages()] + _ALWAYS
    seen = set(waiting)
    while waiting:
        origin = waiting.pop()
        if not origin.startswith("docs/"):
            files.append(_page_of(origin, config))
        linked = set(_links(origin)) - seen if origin.endswith(".md") else set()
        found = [path for path in linked if not path.startswith("docs/") and _exists(path)]
        waiting += found
        seen |= linked
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Let the links of a page lead to pages of the site."""
    uri = page.file.src_uri
    origin = uri.removeprefix("project/") if uri.startswith("project/") else f"docs/{uri}"

    def target(match: re.Match[str]) -> str:
        path = _resolve(origin, match[1])
        outside = not path.startswith("docs/")
        if not _exists(path) or not (outside or uri.startswith("project/")):
            return match[1]
        return posixpath.relpath(_uri(path), posixpath.dirname(uri) or ".")

    markdown = _LINK.sub(target, markdown)
    return markdown.replace(_COMMANDS, "\n".join(_help_of(NNGUARD, "nnguard")))


def _expand(nav: list[object], docs: Path) -> None:
    for entry in nav:
        if not isinstance(entry, dict):
            continue
        for title, value in entry.items():
            if isinstance(value, list):
                _expand(value, docs)
            elif (docs / str(value)).is_dir():
                pages = sorted((docs / value).glob("*.md"))
                entry[title] = [page.relative_to(docs).as_posix() for page in pages]


def _help_of(command: click.Command, name: str) -> Iterator[str]:
    context = click.Context(command, info_name=name, max_content_width=90, terminal_width=90)
    if not isinstance(command, click.Group):
        yield f"## {name}\n\n```text\n{command.get_help(context)}\n```\n"
        return
    for each in command.list_commands(context):
        found = command.get_command(context, each)
        if found is not None:
            yield from _help_of(found, f"{name} {each}")


def _links(origin: str) -> list[str]:
    text = (_ROOT / origin).read_text(encoding="utf-8")
    return [_resolve(origin, link) for link in _LINK.findall(text)]


def _resolve(origin: str, link: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(origin), link))


def _exists(path: str) -> bool:
    return not path.startswith("..") and (_ROOT / path).is_file()


def _uri(path: str) -> str:
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"project/{path}" if path.endswith(".md") else f"project/{path}.md"


def _page_of(path: str, config: MkDocsConfig) -> File:
    text = (_ROOT / path).read_text(encoding="utf-8")
    if not path.endswith(".md"):
        text = f"# {path}\n\n````{_LANGUAGES.get(Path(path).suffix, 'text')}\n{text}````\n"
    level = InclusionLevel.INCLUDED if path in _ALWAYS else InclusionLevel.NOT_IN_NAV
    return File.generated(config, _uri(path), content=text, inclusion=level)
