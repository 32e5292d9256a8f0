"""What the commands about licenses share: their help, and the lines of a license."""

from __future__ import annotations

import argparse
from typing import Any

import nnguard
from nnguard._cli.output import say

__all__ = ["add_command", "say_terms"]


def add_command(
    commands: Any, name: str, summary: str, description: str, examples: str
) -> argparse.ArgumentParser:
    """Add a command whose help ends with examples, and return its parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog=f"{'examples' if examples.count('nnguard ') > 1 else 'example'}:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser


def say_terms(terms: nnguard.LicenseTerms) -> None:
    """Print what a license says."""
    lines = [
        ("issuer", terms.issuer),
        ("customer", terms.customer),
        ("product", terms.product),
        ("tier", terms.tier),
        ("features", ", ".join(terms.features)),
        ("issued at", terms.issued_at.isoformat()),
        ("not before", terms.not_before.isoformat()),
        ("expires at", "never" if terms.expires_at is None else terms.expires_at.isoformat()),
        ("grace", str(terms.grace) if terms.grace else ""),
        ("device", _device_line(terms.device)),
        ("stream", terms.stream),
    ]
    lines += [("meta", f"{key}={value}") for key, value in terms.metadata.items()]
    for label, value in lines:
        if value:
            say(f"  {label:<11} {value}")


def _device_line(binding: Any) -> str:
    if binding is None:
        return ""
    return f"bound to one: {binding.required} of {len(binding.prints)} traits"
