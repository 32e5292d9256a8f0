"""`completion`."""

from __future__ import annotations

from collections.abc import Iterator

import click
from click.shell_completion import get_completion_class

from nnguard._cli.commands import NNGUARD, Options, command
from nnguard._cli.output import Outcome

__all__ = ["run_completion"]

_SHELLS = ("bash", "zsh", "fish")


@command(
    click.Argument(["shell"], type=click.Choice(_SHELLS), help="Shell."),
)
def run_completion(options: Options) -> Outcome:
    """Print a script that completes commands, options and files.

    Print what a shell runs to complete the commands of nnguard with the Tab key.

    Examples:
      nnguard completion bash > ~/.local/share/bash-completion/completions/nnguard
      nnguard completion fish > ~/.config/fish/completions/nnguard.fish
      echo 'eval "$(nnguard completion zsh)"' >> ~/.zshrc
    """
    script = get_completion_class(options.shell)
    assert script is not None
    source = script(NNGUARD, {}, "nnguard", "_NNGUARD_COMPLETE").source()

    def lines() -> Iterator[str]:
        yield from source.rstrip("\n").split("\n")

    return Outcome({"shell": options.shell, "script": source}, lines())
