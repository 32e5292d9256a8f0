"""`ledger token`: who may use the license server for what."""

from __future__ import annotations

from collections.abc import Iterator

from nnguard._cli.commands import Group, Options, command
from nnguard._cli.options import argument, option
from nnguard._cli.output import Outcome, table
from nnguard._cli.selling import ledger_option, open_ledger
from nnguard.licensing import Ledger

__all__ = ["run_list", "run_new", "run_revoke", "run_token"]

run_token = Group(
    "token",
    {"Sellers": {"new": "tokens", "list": "tokens", "revoke": "tokens"}},
    """
  nnguard ledger token new --role shop --name web --ledger licenses.db
  nnguard ledger token list --ledger licenses.db
  nnguard ledger token revoke 5f0c2a91d3b84e67 --ledger licenses.db
""",
    help="Make, list and revoke API tokens.\n\nA shop may make orders and read them; support may "
    "also cancel, take back and revoke; an auditor may read everything.",
)


@command(
    option("--role ROLE", "What it may do: shop, support or auditor.", required=True),
    option("--name TEXT", "Whose it is; the audit log tells.", required=True),
    ledger_option(),
)
def run_new(options: Options) -> Outcome:
    """Make a token, and print it, this once.

    The ledger keeps a hash of it. A token that is lost is revoked, and another made.

    Examples:
      nnguard ledger token new --role shop --name web --ledger licenses.db
    """
    with Ledger(options.ledger) as ledger:
        token, text = ledger.new_token(options.role, options.name)
    return Outcome({"token": token.to_json(), "text": text}, [text])


@command(
    ledger_option(),
)
def run_list(options: Options) -> Outcome:
    """List tokens, without what is secret.

    Examples:
      nnguard ledger token list --ledger licenses.db
    """
    with open_ledger(options.ledger) as ledger:
        tokens = ledger.tokens()

    def lines() -> Iterator[str]:
        rows = (
            (
                each.id,
                each.role,
                each.name,
                str(each.created_at.date()),
                "-" if each.revoked_at is None else str(each.revoked_at.date()),
            )
            for each in tokens
        )
        headings = ("token", "role", "name", "made", "revoked")
        yield from table(headings, rows) if tokens else ["There is none."]

    return Outcome({"tokens": [each.to_json() for each in tokens]}, lines())


@command(
    argument("TOKEN", "Id of the token.", type=str),
    ledger_option(),
)
def run_revoke(options: Options) -> Outcome:
    """Let a token hold no longer.

    Examples:
      nnguard ledger token revoke 5f0c2a91d3b84e67 --ledger licenses.db
    """
    with open_ledger(options.ledger) as ledger:
        token = ledger.revoke_token(options.token)
    return Outcome({"token": token.to_json()}, [f"Revoked token {token.id} of {token.name}"])
