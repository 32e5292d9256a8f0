"""`unlock`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nnguard
from nnguard._cli.commands import Options, command
from nnguard._cli.compression import WORKERS
from nnguard._cli.inputs import open_model
from nnguard._cli.keys import PASSPHRASE_FILE, load_private
from nnguard._cli.licensing import POLICY, policy_of
from nnguard._cli.options import (
    AUTHORITY,
    OMS,
    REMEMBERED,
    argument,
    authority,
    bundle_of,
    option,
    output,
)
from nnguard._cli.output import Outcome, progress_bar
from nnguard._licensing.policy import as_license

__all__ = ["run_unlock"]


@command(
    argument("TRIAL", "Locked stream, or folder of them."),
    output("Full model"),
    option("--license FILE", "License.", required=True),
    option("--identity FILE", "Customer's private key.", required=True),
    PASSPHRASE_FILE,
    AUTHORITY,
    REMEMBERED,
    option("--tier NAME", "Refuse licenses of other tiers."),
    option("--watermark", 'Hide the license in the full model: verify says "licensed to".'),
    POLICY,
    OMS,
    WORKERS,
)
def run_unlock(options: Options) -> Outcome:
    r"""Restore the full model with a license.

    Check a license and the trial that it is for, restore the original, byte for byte, and check
    that as well. Nothing is written unless all of it holds.

    Examples:
      nnguard unlock trial.nnc -o full.nnc --license ada.license --identity ada.key \
          --trust vendor.pub
    """
    believed, bundle = authority(options), bundle_of(options)()
    identity = load_private(nnguard.Identity, options.identity, options.passphrase_file)
    found = as_license(options.license)
    policy = policy_of(options)
    status = nnguard.licensing.check(
        found, believed["trust"], policy=believed["policy"], license_policy=policy
    )
    trial = open_model(options.trial)
    with progress_bar(2 * trial.size, "Unlocking") as progress:  # hashed, and opened
        full = nnguard.unlock(
            trial,
            found,
            identity,
            **believed,
            tier=options.tier,
            license_policy=policy,
            oms=bundle,
            watermark=options.watermark,
            spool=Path(options.output).parent,
            progress=progress,
            workers=options.workers,
        )
    full.save(options.output, overwrite=options.force)

    def lines() -> Iterator[str]:
        yield f"Unlocked: {options.output}, {full.size:,} bytes, tier {status.terms.tier}"
        if status.in_grace:
            yield "  the license has expired and holds for its grace period only: renew it"

    return Outcome({"file": options.output, "size": full.size, **status.to_json()}, lines())
