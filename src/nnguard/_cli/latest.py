"""`latest`: statements on which release is the newest."""

from __future__ import annotations

from collections.abc import Iterator

import nnguard
from nnguard._cli.commands import Group, Options, command
from nnguard._cli.inputs import open_model
from nnguard._cli.keys import SIGNING_KEY, load_signer
from nnguard._cli.options import argument, option, output
from nnguard._cli.output import Outcome, progress_bar

__all__ = ["run_latest", "run_new", "run_show"]

run_latest = Group(
    "latest",
    {"Vendors": {"new": "latest"}, "Deployments": {"show": "latest"}},
    """
  nnguard latest new release.nnc -o resnet56.latest --key vendor.key --expires 30d
  nnguard latest show resnet56.latest
  nnguard verify release.nnc --trust vendor.pub --latest resnet56.latest
""",
    help="State which release is the newest, for a while.\n\nA deployment that verifies with a "
    "statement refuses older releases, and notices when it is kept from newer ones.",
)


@command(
    argument("RELEASE", "The newest release: a signed stream, or a folder of them."),
    output("Statement"),
    SIGNING_KEY,
    option("--expires TIME", "When it ceases to hold: a date, or 30d from now.", required=True),
    option(
        "--trust PATH...",
        "Trusted public keys for the release; that of --key, if not given.",
    ),
)
def run_new(options: Options) -> Outcome:
    """Verify a release, and state that it is the newest.

    Make a new statement before the old one expires, with every release and between them.

    Examples:
      nnguard latest new release.nnc -o resnet56.latest --key vendor.key --expires 30d
    """
    key = load_signer(options.key, options.passphrase_file)
    model = open_model(options.release)
    with progress_bar(model.size, "Verifying") as progress:
        report = nnguard.verify(model, options.trust or key.public_key, progress=progress)
    statement = nnguard.LatestStatement.make(
        report.claims, report.digest, key, expires_at=options.expires
    )
    statement.save(options.output, overwrite=options.force)
    said = f"release {statement.claims.release} of {statement.claims.name or 'it'} is the newest"
    return Outcome(
        {"file": options.output, **statement.to_json()},
        [f"Stated until {statement.expires_at.date()} that {said}: {options.output}"],
    )


@command(argument("STATEMENT", "Latest statement."))
def run_show(options: Options) -> Outcome:
    """Show what a statement says, without checking it.

    Nothing of it is checked, its signature neither.

    Examples:
      nnguard latest show resnet56.latest
    """
    values = nnguard.LatestStatement.load(options.statement).to_json()

    def lines() -> Iterator[str]:
        yield "Not checked:"
        for label, value in values.items():
            if value != "":
                yield f"  {label.replace('_', ' '):<11} {value}"

    return Outcome(values, lines())
