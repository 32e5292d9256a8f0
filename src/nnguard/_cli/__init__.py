"""The command line: `nnguard COMMAND ...`."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

# NumPy starts threads for linear algebra, of which there is none here; it takes 40 ms.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import nnguard
from nnguard._cli.output import (
    EXIT_CODES,
    check_outputs,
    describe_failure,
    exit_code_of,
)

__all__ = ["main", "make_parser"]

_GROUPS = {
    "keys": ("keygen",),
    "compression": ("compress", "decompress"),
    "signing": ("sign", "verify", "strip"),
    "locking": ("lock", "unlock"),
    "licensing": ("license",),
    "attachment": ("attach", "detach"),
    "inspection": ("inspect", "capacity"),
}
"""Modules and their commands. What all of them import takes as long as verifying 100 MB."""

_EPILOG = """\
example:
  nnguard keygen vendor
  nnguard compress model.safetensors -o model.nnc
  nnguard sign model.nnc -o release.nnc --key vendor.key --issuer acme.ai --name resnet56
  nnguard verify release.nnc --trust vendor.pub
  nnguard strip release.nnc -o model.nnc --trust vendor.pub

  nnguard lock release.nnc --trial weaker.nnc -o trial.nnc --content-key content.key \
      --key vendor.key
  nnguard license issue trial.nnc -o ada.license --key vendor.key --content-key content.key \\
      --to ada.pub --customer Ada
  nnguard unlock trial.nnc -o full.nnc --license ada.license --identity ada.key --trust vendor.pub

exit codes:
""" + "\n".join(f"  {code:3}  {meaning}" for code, meaning in EXIT_CODES.items())


def make_parser(command: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of all commands, or, if there is one of this name, of its group."""
    parser = argparse.ArgumentParser(
        prog="nnguard",
        description="Sign NNCodec neural networks inside their own weights, verify them, and sell "
        "them as trials that a license unlocks.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"nnguard {nnguard.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    mine = [group for group, names in _GROUPS.items() if command in names]
    for group in mine or _GROUPS:
        importlib.import_module(f"nnguard._cli.{group}").add_commands(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = make_parser(arguments[0] if arguments else None).parse_args(arguments)
    try:
        check_outputs(options)
        options.run(options)
    except (nnguard.NnguardError, OSError, ImportError, ValueError) as error:
        describe_failure(error, as_json=getattr(options, "json", False))
        return exit_code_of(error)
    return 0
