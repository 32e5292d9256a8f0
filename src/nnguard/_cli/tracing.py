"""`trace`."""

from __future__ import annotations

import math
from collections.abc import Iterator

import click

import nnguard
from nnguard._cli.commands import Options, command
from nnguard._cli.inputs import name_of, open_model
from nnguard._cli.options import FORCE, argument, option, read_share
from nnguard._cli.output import Outcome
from nnguard._cli.selling import ledger_option, open_ledger
from nnguard._crypto.trust import load_trust
from nnguard._models.sources import files_of_weights
from nnguard._operations.trace import PROBABILITY
from nnguard._records.hashed import digest_of, hash_files
from nnguard.licensing import License
from nnguard.plotting import check_picture

__all__ = ["run_trace"]


@command(
    argument("SUSPECT", "Stream, safetensors file, PyTorch checkpoint, or a folder of such."),
    option("--trial FILE", "Trial that was sold, locked with --traceable.", required=True),
    option("--content-key FILE", "Content key that lock made.", required=True),
    ledger_option(required=False),
    option("--license FILE...", "Licenses to compare with, besides those of a ledger."),
    option("--trust PATH...", "Your public keys, which have to have signed the --license files."),
    option(
        "--probability SHARE",
        "Upper bound on the probability of accusing anybody who had no part (1e-9).",
        read=read_share,
        default=PROBABILITY,
    ),
    option("--plot OUTPUT", "Draw the scores of all licenses."),
    FORCE,
)
def run_trace(options: Options) -> Outcome:
    r"""Find out from whose copies a network was made.

    Each license of a traceable trial opens a copy with a fingerprint of its own. Compare a network
    with all copies that were licensed. It may have been fine-tuned, pruned, quantized anew, or
    mixed of several. What is found is whose copy it was made with, not who passed it on.

    Examples:
      nnguard trace suspect.safetensors --trial trial.nnc --content-key content.key \
          --ledger licenses.db
      nnguard trace suspect.nnc --trial trial.nnc --content-key content.key \
          --license ada.license --trust vendor.pub --plot scores.png
    """
    if options.plot is not None:
        check_picture(options.plot)
    trial = open_model(options.trial)
    if isinstance(trial, nnguard.StreamSet):
        raise click.UsageError("--trial: fingerprints are for a single stream, not for a folder")
    if not options.ledger and not options.license:
        raise click.UsageError("there are no licenses to compare with: give --ledger, or --license")
    customers = _customers(options, trial)
    if not customers:
        raise click.UsageError(
            f"the ledger has no license of {options.trial}: is this the trial that was sold, "
            "locked with --traceable?"
        )
    suspect = options.suspect
    if not files_of_weights(suspect):
        suspect = open_model(suspect)
    trace = nnguard.trace(
        suspect, trial, options.content_key, customers, probability=options.probability
    )
    if options.plot is not None:
        nnguard.plotting.plot_trace(trace, options.plot, overwrite=options.force)
    values = {"file": options.suspect, **trace.to_json()}
    for accusation in values["accused"]:
        accusation["customer"] = customers[accusation["license_id"]]
    return Outcome(values, _lines(options, trace, customers))


def _customers(options: Options, trial: nnguard.Stream) -> dict[str, str]:
    """Return who has the licenses of a trial, by their ids."""
    found: dict[str, str] = {}
    digest = digest_of(hash_files(trial)).hex()
    if options.ledger:
        with open_ledger(options.ledger) as ledger:
            found = {
                entry.license_id: entry.customer
                for entry in ledger.entries()
                if entry.stream == digest
            }
    if options.license and not options.trust:
        raise click.UsageError(
            "--trust is missing: what a license says of its customer is true if you signed it"
        )
    trusted = load_trust(options.trust) if options.license else ()
    for path in options.license or []:
        license_ = License.load(path)
        license_.authenticate(trusted)
        terms = license_.terms
        if terms.stream != digest:
            raise click.UsageError(f"--license {path}: it is of another trial")
        if found.setdefault(terms.id, terms.customer) != terms.customer:
            raise click.UsageError(f"--license {path}: the ledger names another customer")
    return found


def _lines(options: Options, trace: nnguard.Trace, customers: dict[str, str]) -> Iterator[str]:
    tensors, all_of_them = len(trace.tensors), len(trace.tensors) + len(trace.missing)
    many = len(trace.license_ids)
    yield (
        f"Compared {name_of(options.suspect)} with the copies of {many:,} "
        f"license{'s' * (many != 1)}: {trace.marks:,} weights in {tensors} of {all_of_them} tensors"
    )
    for accusation in trace.accused:
        who = customers[accusation.license_id] or "a customer without a name"
        power = math.ceil(accusation.log10_probability)
        yield f"Made with the copy of {who}, license {accusation.license_id}"
        yield (
            f"  score {accusation.score:.1f}; the chance that this accuses somebody innocent, over "
            f"all {many:,} licenses, is below 1e{power}"
        )
    if options.plot is not None:
        yield f"Wrote {options.plot}"
    if not trace.marks:
        yield "Nobody: nothing of the release was found in it"
    elif not trace.accused:
        yield f"Nobody: no score is high enough; the highest is {trace.scores.max():.1f}"
    else:
        yield "It says whose copy this was made with, not who passed it on (docs/tracing.md)"
