"""What a command is: its parameters, its help, what it returns; and which commands there are."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import logging
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, TypeAlias

import click

import nnguard
from nnguard._cli.failures import EXIT_CODES, check_credentials, swapped
from nnguard._cli.options import option
from nnguard._cli.output import Outcome, show, warn, warnings_shown
from nnguard.errors import (
    ArgumentError,
    KeyFormatError,
    LedgerError,
    LicenseError,
    PolicyError,
)

__all__ = ["NNGUARD", "Command", "Group", "Options", "command"]

Options: TypeAlias = SimpleNamespace
"""The values of a command's parameters."""

_SECTIONS = {
    "Vendors, who sign models": {
        "keygen": "keys",
        "compress": "compression",
        "sign": "signing",
        "latest": "latest",
        "attach": "attachment",
        "capacity": "inspection",
    },
    "Deployments, which verify them": {
        "verify": "verifying",
        "policy": "policies",
        "strip": "verifying",
        "decompress": "compression",
        "detach": "attachment",
        "inspect": "inspection",
        "gate": "gating",
    },
    "Sellers, who lock them": {
        "lock": "locking",
        "license": "licensing",
        "product": "products",
        "order": "ordering",
        "ledger": "ledgers",
        "serve": "serving",
        "trace": "tracing",
    },
    "Customers, who unlock them": {
        "unlock": "unlocking",
        "relay": "relaying",
        "lease": "relaying",
    },
    "Shells": {"completion": "completion"},
}
"""Commands, by who uses them, and the module of each. What all of them import takes as long as
verifying 100 MB, so each is loaded when it is asked for."""

_EXAMPLES = """
  nnguard keygen vendor
  nnguard compress model.safetensors -o model.nnc
  nnguard sign model.nnc -o release.nnc --key vendor.key --issuer acme.ai --name resnet56
  nnguard verify release.nnc --trust vendor.pub --name resnet56
  nnguard strip release.nnc -o model.nnc --trust vendor.pub

  nnguard lock release.nnc --trial weaker.nnc -o trial.nnc --content-key content.key \\
      --key vendor.key
  nnguard keygen ada --identity
  nnguard license issue trial.nnc -o ada.license --key vendor.key --content-key content.key \\
      --to ada.pub --customer Ada
  nnguard unlock trial.nnc -o full.nnc --license ada.license --identity ada.key --trust vendor.pub
"""


class _Helpful(click.Command):
    """Help that shows examples as they are, and options under headings of their own."""

    examples = ""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, by heading."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                sections.setdefault(getattr(parameter, "heading", "Options"), []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the examples."""
        with formatter.section("Examples"):
            formatter.write(self.examples.strip("\n") + "\n")


class Command(_Helpful):
    """A command: a function gets its options, and what it returns is shown."""

    def invoke(self, ctx: click.Context) -> int:
        """Run the command; return the exit code."""
        options, start = Options(**ctx.params), time.monotonic()
        if options.verbose:
            logging.basicConfig(format="%(name)s: %(message)s")
            logging.getLogger("nnguard").setLevel(logging.DEBUG)
        for parameter in self.params:
            if callable(check := getattr(parameter.type, "check", None)):
                check(ctx.params[parameter.name or ""], overwrite=options.force)
        check_credentials(self, ctx.params)
        assert self.callback is not None
        try:
            people = not getattr(options, "log_json", False)
            with contextlib.nullcontext() if options.verbose else warnings_shown(for_people=people):
                outcome = self.callback(options)
        except (KeyFormatError, LicenseError, LedgerError, PolicyError) as error:
            error.hint = swapped(self, ctx.params) or error.hint
            raise
        except ArgumentError as error:
            error.hint = error.hint or f"see {ctx.command_path} --help"
            raise
        code = show(outcome, as_json=options.json, quiet=options.quiet)
        if options.verbose:
            warn(f"this took {time.monotonic() - start:.2f} s")
        return code


class Group(_Helpful, click.Group):
    """Commands, in sections, which are loaded when they are needed.

    Args:
        name: Of the group.
        sections: Modules of `nnguard._cli` by command, by section.
        examples: For the help.
        attributes: Others of `click.Group`.
    """

    def __init__(
        self, name: str, sections: dict[str, dict[str, str]], examples: str, **attributes: Any
    ) -> None:
        super().__init__(name, subcommand_metavar="COMMAND ...", options_metavar="", **attributes)
        self.sections, self.examples = sections, examples
        self._modules = {name: at for section in sections.values() for name, at in section.items()}
        self.commands = dict.fromkeys(self._modules, self)  # for suggestions, which take the names

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Load a command."""
        if cmd_name not in self._modules:
            return None
        module = importlib.import_module(f"nnguard._cli.{self._modules[cmd_name]}")
        found: click.Command = getattr(module, f"run_{cmd_name.replace('-', '_')}")
        return found

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names of the commands."""
        return [*self._modules]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options and the commands, by section."""
        for title, names in self.sections.items():
            with formatter.section(title):
                formatter.write_dl([(name, self.summary_of(name)) for name in names])
        super().format_options(ctx, formatter)

    def summary_of(self, name: str) -> str:
        """Return what a command does, in a few words, as the first line of its help says."""
        found = self.get_command(click.Context(self), name)
        return (found.help or "").partition("\n")[0].rstrip(".") if found else ""


class _Top(Group):
    """All commands; the help ends with the exit codes."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples and the exit codes."""
        super().format_epilog(ctx, formatter)
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), meaning) for code, meaning in EXIT_CODES.items()])


def command(
    *parameters: click.Parameter | Sequence[click.Parameter],
) -> Callable[[Callable[[Options], Outcome]], Command]:
    """Make a command of a function, whose docstring is the help, and ends with examples.

    Args:
        parameters: Arguments and options, or lists of them.
    """
    params: list[click.Parameter] = []
    for each in parameters:
        params += [each] if isinstance(each, click.Parameter) else each

    def decorate(function: Callable[[Options], Outcome]) -> Command:
        name = function.__name__.removeprefix("run_").replace("_", "-")
        text, _, examples = inspect.cleandoc(function.__doc__ or "").partition("\n\nExamples:\n")
        made = Command(name, callback=function, params=[*params, *_COMMON], help=text)
        made.examples = examples
        return made

    return decorate


def _show_version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        click.echo(f"nnguard {nnguard.__version__}")
        ctx.exit()


_COMMON = [
    option("--json", "Print JSON, failures included."),
    option("-q --quiet", "Print failures only."),
    option("-v --verbose", "Say how long it took, and where in the code it failed."),
]
_VERSION = option(
    "--version", "Show the version.", is_eager=True, expose_value=False, callback=_show_version
)
NNGUARD = _Top(
    "nnguard",
    _SECTIONS,
    _EXAMPLES,
    params=[_VERSION],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Sign NNCodec neural networks inside their own weights, verify them, and sell them as "
    "trials that a license unlocks.",
)
