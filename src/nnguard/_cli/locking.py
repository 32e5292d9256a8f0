"""`lock` and `unlock`."""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import nnguard
from nnguard._base.files import named_together
from nnguard._cli.checks import add_checks, checks_of
from nnguard._cli.evaluating import load_function
from nnguard._cli.keys import add_passphrase_file, load_identity, load_signing_key
from nnguard._cli.output import add_json, add_output, print_json, progress_bar, say, warn
from nnguard._cli.signing import add_trust
from nnguard._locking.tiers import DEFAULT_SCRAMBLE, LockResult
from nnguard._models.stream_set import open_model

__all__ = ["add_commands"]

_LARGE = 1.5
"""Times as large as the release, a trial is more likely the release itself."""

_TIER_FIELDS = (
    "trial", "scramble", "soft", "fraction", "target", "tolerance", "max_fraction"
)  # fmt: skip
_NEEDS = {"trial": "a file", "soft": "no value"}
_SOFT_FIELDS = ("soft", "fraction", "target")
_SOFT = (
    "--fraction and --target replace a few weights, and anybody can repair that with a few inputs: "
    "say --soft if a demonstration is all that you want, or give --trial another network"
)


def add_commands(commands: Any) -> None:
    """Add `lock` and `unlock`."""
    parser = commands.add_parser(
        "lock",
        help="make a trial that a license unlocks",
        description="Make a file to give away that holds the release, encrypted. With --trial it "
        "is another network, and that is all that can be got out of it; without, it is the release "
        "with tensors scrambled. Any NNCodec decoder reads it.",
        epilog="examples:\n"
        "  nnguard lock release.nnc --trial weaker.nnc -o trial.nnc --content-key content.key \\\n"
        "      --key vendor.key --evaluate score.py:accuracy\n"
        "  nnguard lock release.nnc -o trial.nnc --content-key content.key --scramble 0.1\n"
        "  nnguard lock release.nnc -o trial.nnc --content-key content.key --soft --target 0.4 \\\n"
        "      --evaluate score.py:accuracy\n"
        "  nnguard lock release.nnc -o trial.nnc --content-key content.key \\\n"
        "      --tier professional:trial=medium.nnc --tier standard:trial=small.nnc",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "release", metavar="RELEASE", help="stream or folder of streams; sign it before"
    )
    add_output(parser, what="trial")
    parser.add_argument(
        "--content-key", dest="content_key_output", required=True, metavar="FILE",
        help="content key to write: keep it secret, it opens the trial",
    )  # fmt: skip
    parser.add_argument("--key", metavar="FILE", help="private key (PEM) that signs the trial")
    add_passphrase_file(parser)
    _add_amount(parser)
    parser.add_argument(
        "--tier", action="append", default=[], metavar="NAME[:FIELD=VALUE,...]",
        help="name of what a license opens; repeated, highest first, it makes nested locks, each "
        "with its own trial, scramble, soft, fraction or target",
    )  # fmt: skip
    parser.add_argument("--plot", metavar="FILE", help="draw fraction against score")
    add_json(parser)
    parser.set_defaults(run=_lock)

    parser = commands.add_parser(
        "unlock",
        help="restore the full model with a license",
        description="Check a license and the trial that it is for, restore the original, byte for "
        "byte, and check that as well. Nothing is written unless all of it holds.",
        epilog="example:\n  nnguard unlock trial.nnc -o full.nnc --license acme.license \\\n"
        "      --identity customer.key --trust vendor.pub",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("trial", metavar="TRIAL", help="locked stream, or folder of them")
    add_output(parser, what="full model")
    parser.add_argument("--license", required=True, metavar="FILE", help="license")
    parser.add_argument(
        "--identity", required=True, metavar="FILE", help="the customer's private key"
    )
    add_passphrase_file(parser)
    add_trust(parser)
    parser.add_argument("--tier", default="", metavar="NAME", help="refuse licenses of other tiers")
    parser.add_argument(
        "--mark", action="store_true", help='carry the license in the result: "licensed to"'
    )
    add_checks(parser)
    add_json(parser)
    parser.set_defaults(run=_unlock)


def _add_amount(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the lock")
    group.add_argument(
        "--trial", metavar="WEAKER",
        help="stream or folder of another network, which is given away and carries the release: an "
        "early checkpoint, a smaller one; it takes about a third of the release's weights",
    )  # fmt: skip
    group.add_argument(
        "--scramble", type=_scramble, metavar="F|NAMES",
        help="scramble the first tensors with this fraction of all weights, and all of one "
        f"dimension ({DEFAULT_SCRAMBLE:g}, where neither --trial nor --soft is given); or tensors "
        "by name or pattern: 'embedding.weight+layer1.*'",
    )  # fmt: skip
    group.add_argument(
        "--soft", action="store_true", default=None,
        help="replace a few weights: a demonstration, which anybody can repair",
    )  # fmt: skip
    group.add_argument(
        "--evaluate", metavar="FILE.py:FUNCTION",
        help="your function: given the weights, a mapping of names to NumPy arrays, it returns a "
        "score; higher is better. The file is run. Without --target, release, trial and what the "
        "key makes of the trial are scored",
    )  # fmt: skip
    soft = parser.add_argument_group("with --soft")
    soft.add_argument(
        "--fraction", type=_share, metavar="F", help="replace this fraction of all weights (1e-4)"
    )
    soft.add_argument(
        "--target", type=_number, metavar="SCORE", help="replace as many as this score asks for"
    )
    soft.add_argument(
        "--tolerance", type=_number, metavar="T",
        help="how far the score may be from the target (0.01)",
    )  # fmt: skip
    soft.add_argument(
        "--max-fraction", type=_share, metavar="F", help="replace no more for the target (0.01)"
    )


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return number


def _share(text: str) -> float:
    share = _number(text)
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not above 0 and at most 1")
    return share


def _scramble(text: str) -> float | tuple[str, ...]:
    """Read a fraction, or names of tensors, joined by plus signs."""
    try:
        float(text)
    except ValueError:
        return tuple(text.split("+"))
    return _share(text)


def _lock(options: argparse.Namespace) -> None:
    tiers = [_tier(text, options) for text in options.tier or ["full"]]
    aims = any(tier.target is not None for tier in tiers)
    _check_usage(options, tiers, aims=aims)
    evaluate = None if options.evaluate is None else load_function(options.evaluate)
    signer = None if options.key is None else load_signing_key(options)
    release = open_model(options.release)
    _warn_of_swapped(release, tiers)
    if isinstance(release, nnguard.StreamSet):
        _lock_folder(options, release, tiers, signer)
        return
    locks = nnguard.lock_tiers(
        release, tiers, evaluate=evaluate, signer=signer, progress=_show_point
    )
    trial = locks[-1].stream
    with named_together():  # the key first: no trial is ever without
        locks[0].content_key.save(options.content_key_output, overwrite=options.force)
        trial.save(options.output, overwrite=options.force)
        if options.plot is not None:
            from nnguard.plotting import plot_search

            plot_search(locks, options.plot, overwrite=options.force)
    _report(options, tiers, release.size, trial.size, locks)


def _warn_of_swapped(
    release: nnguard.Stream | nnguard.StreamSet, tiers: Sequence[nnguard.Tier]
) -> None:
    """Warn of a trial much larger than the release: it is given away in the clear."""
    for tier in tiers:
        if isinstance(tier.trial, str) and open_model(tier.trial).size > _LARGE * release.size:
            warn(
                f"the trial {tier.trial} is much larger than the release, and is given away as it "
                "is: are they swapped?"
            )


def _lock_folder(
    options: argparse.Namespace,
    release: nnguard.StreamSet,
    tiers: list[nnguard.Tier],
    signer: nnguard.SigningKey | None,
) -> None:
    if options.evaluate is not None:
        raise ValueError("--evaluate scores a network in one stream, not a folder")
    spool = Path(options.output).parent
    locks = nnguard.lock_set(release, tiers, signer=signer, spool=spool)

    def save_key() -> None:
        locks[0].content_key.save(options.content_key_output, overwrite=options.force)

    trial = locks[-1].streams
    trial.save(options.output, overwrite=options.force, before=save_key)
    _report(options, tiers, release.size, trial.size, locks)


def _check_usage(options: argparse.Namespace, tiers: Sequence[nnguard.Tier], *, aims: bool) -> None:
    """Stop before a search whose result could not be kept, or would be kept at a loss."""
    if aims and options.evaluate is None:
        raise ValueError("--target takes --evaluate, which scores a network")
    if options.plot is not None and not aims:
        raise ValueError("--plot draws the search for a target: give --target and --evaluate")
    if options.plot is not None:
        from nnguard.plotting import check_picture

        check_picture(options.plot)
    outputs = [options.output, options.content_key_output, options.plot]
    paths = {Path(path).resolve(): path for path in outputs if path is not None}
    if len(paths) < len(outputs) - outputs.count(None):
        raise ValueError("the trial, the content key and the plot are files of their own")
    given = [options.release, *(str(tier.trial) for tier in tiers if tier.trial is not None)]
    for network in given:
        for path, name in paths.items():
            if Path(network).resolve() in (path, *path.parents):
                raise ValueError(f"the trial is made of {network}: write {name} elsewhere")


def _report(
    options: argparse.Namespace,
    tiers: Sequence[nnguard.Tier],
    before: int,
    after: int,
    locks: Sequence[LockResult],
) -> None:
    if options.json:
        print_json(
            {
                "ok": True,
                "file": options.output,
                "content_key": options.content_key_output,
                "size_before": before,
                "size": after,
                "tiers": [_tier_json(locked) for locked in locks],
            }
        )
        return
    trials = [tier.trial for tier in tiers if isinstance(tier.trial, str)]
    whole = before + sum(open_model(trial).size for trial in trials)
    growth = f"{100 * (after - whole) / whole:+.3f} %{' of both networks' if trials else ''}"
    say(f"Locked: {options.output}, {after:,} bytes ({growth})")
    for locked in locks:
        say(f"  tier {locked.tier}: {', '.join(_describe(locked))}")
        say(f"  worth: {locked.worth}")
    say(f"Content key: {options.content_key_output} (keep it secret)")


def _describe(locked: LockResult) -> Iterator[str]:
    """Say what a lock did, and what it did to the score."""
    if locked.carried:
        yield f"{locked.carried:,} bytes carried by another network"
    if locked.replaced:
        share = 100 * locked.replaced / locked.weights
        yield f"{locked.replaced:,} weights replaced ({share:.4f} %)"
    if locked.scrambled:
        share = 100 * locked.scrambled / locked.weights
        yield f"{locked.scrambled:,} weights scrambled ({share:.1f} %)"
    if locked.curve:
        yield f"score {locked.curve[0].score:g} -> {locked.curve[-1].score:g}"
    if locked.scores is not None:
        scores = locked.scores
        yield (
            f"score {scores.release:g}, of the trial {scores.trial:g}, unlocked {scores.unlocked:g}"
        )


def _tier_json(locked: LockResult) -> dict[str, Any]:
    curve = [{"fraction": point.fraction, "score": point.score} for point in locked.curve]
    return {
        "tier": locked.tier,
        "carried": locked.carried,
        "scrambled": locked.scrambled,
        "replaced": locked.replaced,
        "weights": locked.weights,
        "curve": curve,
        "scores": None if locked.scores is None else asdict(locked.scores),
    }


def _tier(text: str, options: argparse.Namespace) -> nnguard.Tier:
    """Read `NAME[:FIELD=VALUE,...]`; what it leaves out is what the options say."""
    name, _, fields = text.partition(":")
    if not name:
        raise ValueError(f"--tier {text}: a tier needs a name")
    own = dict(_field(text, part) for part in fields.split(",") if part)
    given = {field: getattr(options, field) for field in _TIER_FIELDS}
    if "trial" in own:
        given |= dict.fromkeys((*_SOFT_FIELDS, "scramble"))
    elif own.keys() & {*_SOFT_FIELDS, "scramble"}:
        given["trial"] = None
    if own.keys() & {"fraction", "target"}:
        given["fraction"] = given["target"] = None
    values = {field: value for field, value in (given | own).items() if value is not None}
    if values.keys() & {"fraction", "target"} and "soft" not in values:
        raise ValueError(_SOFT)
    return nnguard.Tier(name, **values)


def _field(text: str, part: str) -> tuple[str, Any]:
    """Read a field of `--tier`."""
    field, equals, value = part.partition("=")
    field = field.replace("-", "_")
    if field not in _TIER_FIELDS:
        raise ValueError(f"--tier {text}: {field} is none of {', '.join(_TIER_FIELDS)}")
    if field == "trial" and value:
        return field, value
    if field == "soft" and not equals:
        return field, True
    if field == "scramble" and value:
        with contextlib.suppress(argparse.ArgumentTypeError):
            return field, _scramble(value)
    elif field not in _NEEDS:
        with contextlib.suppress(argparse.ArgumentTypeError):
            return field, _number(value)
    raise ValueError(f"--tier {text}: {field} needs {_NEEDS.get(field, 'a number')}")


def _show_point(point: nnguard.CurvePoint) -> None:
    print(f"  {100 * point.fraction:.4f} % replaced: score {point.score:g}", file=sys.stderr)


def _unlock(options: argparse.Namespace) -> None:
    identity = load_identity(options.identity, options)
    license = nnguard.License.load(options.license)  # noqa: A001
    checks = checks_of(options)
    status = nnguard.licensing.check(license, options.trust, policy=checks)
    full = _unlocked(options, license, identity, checks)
    full.save(options.output, overwrite=options.force)
    if options.json:
        result = {"ok": True, "file": options.output, "size": full.size}
        print_json({**result, **status.to_json()})
        return
    say(f"Unlocked: {options.output}, {full.size:,} bytes, tier {license.terms.tier}")
    if status.in_grace:
        say("  the license has expired and holds for its grace period only: renew it")


def _unlocked(
    options: argparse.Namespace,
    license: nnguard.License,  # noqa: A002
    identity: nnguard.Identity,
    checks: nnguard.licensing.Policy,
) -> nnguard.Stream | nnguard.StreamSet:
    trial = open_model(options.trial)
    if isinstance(trial, nnguard.StreamSet) and options.mark:
        raise ValueError("--mark marks a single stream, not a folder")
    asked = license, identity, options.trust
    with progress_bar(2 * trial.size, "Unlocking") as progress:  # hashed, and opened
        common: dict[str, Any] = {"tier": options.tier, "checks": checks, "progress": progress}
        if isinstance(trial, nnguard.StreamSet):
            spool = Path(options.output).parent
            return nnguard.unlock_set(trial, *asked, spool=spool, **common)
        return nnguard.unlock(trial, *asked, mark=options.mark, **common)
