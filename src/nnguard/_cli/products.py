"""`product`: trials that orders sell."""

from __future__ import annotations

from collections.abc import Iterator

import nnguard
from nnguard._cli.commands import Group, Options, command
from nnguard._cli.inputs import open_model
from nnguard._cli.keys import SIGNING_KEY, load_signer
from nnguard._cli.options import argument, option
from nnguard._cli.output import Outcome, progress_bar, table
from nnguard._cli.selling import LEDGER_KEY, ledger_option, load_ledger_key, open_ledger

__all__ = ["run_add", "run_list", "run_product"]

run_product = Group(
    "product",
    {"Sellers": {"add": "products", "list": "products"}},
    """
  nnguard product add trial.nnc --content-key content.key --key vendor.key \\
      --ledger licenses.db --ledger-key desk.key
  nnguard product list --ledger licenses.db
""",
    help="Add trials that orders sell, and list them.\n\nA product is opened once, when it is "
    "added; the ledger then keeps its content key, wrapped to your own identity, and licenses of "
    "orders need neither the trial nor the key.",
)


@command(
    argument("TRIAL", "The very stream, or folder, that customers get."),
    option("--content-key FILE", "Of the lock; that of the highest tier for sale.", required=True),
    option("--name TEXT", "What orders call it; by default, as the trial says."),
    SIGNING_KEY,
    ledger_option(),
    LEDGER_KEY,
)
def run_add(options: Options) -> Outcome:
    r"""Add a trial that orders sell.

    Open a trial with its content key, in memory, and keep in the ledger what licenses of it need.
    Adding the same trial again changes nothing, unless the key is that of a higher tier.

    Examples:
      nnguard product add trial.nnc --content-key content.key --key vendor.key \
          --ledger licenses.db --ledger-key desk.key
    """
    key = load_signer(options.key, options.passphrase_file)
    content_key = nnguard.ContentKey.load(options.content_key)
    trial = open_model(options.trial)
    with (
        nnguard.licensing.Ledger(options.ledger) as ledger,
        progress_bar(2 * trial.size, "Opening") as progress,  # it is hashed, and opened
    ):
        issuer = nnguard.licensing.Issuer(ledger, key, load_ledger_key(options))
        product = issuer.add_product(trial, content_key, name=options.name, progress=progress)
    tiers = ", ".join(f"tier {tier.name}" for tier in product.tiers)
    return Outcome({"product": product.to_json()}, [f"Product {product.name}, {tiers}"])


@command(
    ledger_option(),
)
def run_list(options: Options) -> Outcome:
    """List products.

    They are those of the ledger, by name.

    Examples:
      nnguard product list --ledger licenses.db
    """
    with open_ledger(options.ledger) as ledger:
        products = ledger.products()

    def lines() -> Iterator[str]:
        rows = (
            (each.name, ", ".join(tier.name for tier in each.tiers), str(each.added_at.date()))
            for each in products
        )
        yield from table(("product", "tiers", "added"), rows) if products else ["There is none."]

    return Outcome({"products": [each.to_json() for each in products]}, lines())
