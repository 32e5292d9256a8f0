"""Tables for notebooks."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["html_table"]


def html_table(title: str, rows: Mapping[str, object]) -> str:
    """Return a table of labels and values; those that are empty are left out."""
    import html  # for notebooks alone

    cells = "".join(
        f"<tr><th>{html.escape(label)}</th><td>{html.escape(str(value))}</td></tr>"
        for label, value in rows.items()
        if str(value)
    )
    return f"<table><caption>{html.escape(title)}</caption>{cells}</table>"
