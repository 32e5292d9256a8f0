"""`lock`, `unlock`, and the options that ask something of a license."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import math
import sys
import traceback
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import nnguard
from nnguard.cli.keys import add_passphrase_file, load_identity, load_signing_key
from nnguard.cli.output import add_json, add_output, print_json, progress_bar, say
from nnguard.cli.signing import add_trust

__all__ = [
    "add_checks",
    "add_commands",
    "check_folders",
    "checks_of",
    "load_device",
    "parse_days",
    "parse_time",
]

_TIER_FIELDS = ("fraction", "target", "tolerance", "max_fraction", "scramble")


def add_commands(commands: Any) -> None:
    """Add `lock` and `unlock`."""
    parser = commands.add_parser(
        "lock",
        help="make a trial that a license unlocks",
        description="Change a few weights of a release so that it works badly, and hide the "
        "originals in the same file, encrypted. Any NNCodec decoder reads the trial. Without "
        "--target, measure the trial before you ship it.",
        epilog="examples:\n"
        "  nnguard lock release.nnc -o trial.nnc --content-key content.key --key vendor.key\n"
        "  nnguard lock release.nnc -o trial.nnc --content-key content.key --target 0.4 \\\n"
        "      --evaluate score.py:accuracy\n"
        "  nnguard lock release.nnc -o trial.nnc --content-key content.key --scramble 0.5\n"
        "  nnguard lock release.nnc -o trial.nnc --content-key content.key \\\n"
        "      --tier professional:fraction=1e-5 --tier standard:fraction=1e-3",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("release", metavar="RELEASE", help="NNCodec stream, signed if you can")
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
        "with its own fraction, target or scramble",
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
    parser.add_argument("trial", metavar="TRIAL", help="locked stream")
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


def add_checks(parser: argparse.ArgumentParser) -> None:
    """Add the options that ask something of a license besides its signature."""
    group = parser.add_argument_group("checks")
    group.add_argument("--revocations", metavar="FILE", help="the vendor's revocation list")
    group.add_argument(
        "--max-age", type=parse_days, metavar="DAYS",
        help="require a revocation list no older than this",
    )  # fmt: skip
    group.add_argument(
        "--state", metavar="FILE", help="remember the newest time: notices clocks that are set back"
    )
    group.add_argument(
        "--device", metavar="FILE", help="device instead of this machine (nnguard license device)"
    )
    group.add_argument("--now", type=parse_time, metavar="TIME", help="time instead of the clock's")


def checks_of(options: argparse.Namespace) -> nnguard.Checks:
    """Return the checks that the options ask for."""
    return nnguard.Checks(
        now=options.now,
        device=load_device(options.device),
        revocations=options.revocations,
        max_age=options.max_age,
        state=options.state,
    )


def load_device(path: str | None) -> nnguard.Device | None:
    """Read a device file, if there is one."""
    if path is None:
        return None
    try:
        return nnguard.Device.from_json(Path(path).read_bytes().decode())
    except ValueError:
        raise ValueError(f"{path} is no device: nnguard license device writes one") from None


def parse_time(text: str) -> datetime:
    """Read a date or a time in ISO 8601; UTC, where it does not say."""
    try:
        time = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
        time = time if time.tzinfo is not None else time.replace(tzinfo=timezone.utc)
        return time.astimezone(timezone.utc)
    except (ValueError, OverflowError):
        example = "such as 2027-12-31 or 2027-12-31T18:00+01:00"
        raise argparse.ArgumentTypeError(f"{text!r} is no date or time, {example}") from None


def parse_days(text: str) -> timedelta:
    """Read a number of days, not below 0."""
    try:
        days = timedelta(days=float(text))
    except (ValueError, OverflowError):
        days = timedelta(-1)
    if days < timedelta(0):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of days")
    return days


def check_folders(*paths: str | None) -> None:
    """Stop before any work is done for a file whose folder does not exist."""
    for path in paths:
        if path is not None and not Path(path).parent.is_dir():
            raise FileNotFoundError(f"{path}: there is no folder {Path(path).parent}")


def _add_amount(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how much")
    group.add_argument(
        "--fraction", type=_share, metavar="F", help="replace this fraction of all weights (1e-4)"
    )
    group.add_argument(
        "--target", type=_number, metavar="SCORE", help="replace as many as this score asks for"
    )
    group.add_argument(
        "--evaluate", metavar="FILE.py:FUNCTION",
        help="your function: given the weights, a mapping of names to NumPy arrays, it returns a "
        "score; higher is better. The file is run",
    )  # fmt: skip
    group.add_argument(
        "--tolerance", type=_number, metavar="T",
        help="how far the score may be from the target (0.01)",
    )  # fmt: skip
    group.add_argument(
        "--max-fraction", type=_share, metavar="F", help="replace no more for the target (1e-3)"
    )
    group.add_argument(
        "--scramble", type=_share, metavar="F",
        help="encrypt the signs of this fraction of all weights: slower to unlock, hard to repair",
    )  # fmt: skip


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("not a number to reckon with")
    return number


def _share(text: str) -> float:
    share = _number(text)
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and at most 1")
    return share


def _lock(options: argparse.Namespace) -> None:
    tiers = [_tier(text, options) for text in options.tier or ["full"]]
    aims = any(tier.target is not None for tier in tiers)
    _check_usage(options, aims=aims)
    evaluate = _function(options.evaluate) if aims else None
    signer = None if options.key is None else load_signing_key(options)
    release = nnguard.Stream.open(options.release)
    locks = nnguard.lock_tiers(
        release, tiers, evaluate=evaluate, signer=signer, progress=_show_point
    )
    trial = locks[-1].stream
    if options.plot is not None:
        nnguard.plot_curves(locks, options.plot, overwrite=options.force)
    locks[0].content_key.save(options.content_key_output, overwrite=options.force)
    trial.save(options.output, overwrite=options.force)
    _report(options, release, trial, locks)


def _check_usage(options: argparse.Namespace, *, aims: bool) -> None:
    """Stop before a search whose result could not be kept."""
    if aims != (options.evaluate is not None):
        raise ValueError("--target and --evaluate belong together")
    if options.plot is not None and not aims:
        raise ValueError("--plot draws the search for a target: give --target and --evaluate")
    outputs = [options.output, options.content_key_output, options.plot]
    check_folders(*outputs)
    paths = [Path(path).resolve() for path in outputs if path is not None]
    if len(set(paths)) < len(paths):
        raise ValueError("the trial, the content key and the plot are files of their own")


def _report(
    options: argparse.Namespace,
    release: nnguard.Stream,
    trial: nnguard.Stream,
    locks: list[nnguard.Locked],
) -> None:
    if options.json:
        print_json(
            {
                "ok": True,
                "file": options.output,
                "content_key": options.content_key_output,
                "size_before": release.size,
                "size": trial.size,
                "tiers": [_tier_json(locked) for locked in locks],
            }
        )
        return
    growth = 100 * (trial.size - release.size) / release.size
    say(f"Locked: {options.output}, {trial.size:,} bytes ({growth:+.3f} %)")
    for locked in locks:
        parts = []
        if locked.replaced:
            share = 100 * locked.replaced / locked.weights
            parts.append(f"{locked.replaced:,} weights replaced ({share:.4f} %)")
        if locked.scrambled:
            share = 100 * locked.scrambled / locked.weights
            parts.append(f"signs of {locked.scrambled:,} weights scrambled ({share:.1f} %)")
        if locked.curve:
            parts.append(f"score {locked.curve[0].score:g} -> {locked.curve[-1].score:g}")
        say(f"  tier {locked.tier}: {', '.join(parts)}")
    say(f"Content key: {options.content_key_output} (keep it secret)")


def _tier_json(locked: nnguard.Locked) -> dict[str, Any]:
    curve = [{"fraction": point.fraction, "score": point.score} for point in locked.curve]
    return {
        "tier": locked.tier,
        "replaced": locked.replaced,
        "scrambled": locked.scrambled,
        "weights": locked.weights,
        "curve": curve,
    }


def _tier(text: str, options: argparse.Namespace) -> nnguard.Tier:
    """Read `NAME[:FIELD=VALUE,...]`; what it leaves out is what the options say."""
    name, _, fields = text.partition(":")
    if not name:
        raise ValueError(f"--tier {text}: a tier needs a name")
    given = {field: getattr(options, field) for field in _TIER_FIELDS}
    own: dict[str, float] = {}
    for part in filter(None, fields.split(",")):
        field, _, value = part.partition("=")
        field = field.replace("-", "_")
        if field not in given:
            raise ValueError(f"--tier {text}: {field} is none of {', '.join(_TIER_FIELDS)}")
        try:
            own[field] = _number(value)
        except ValueError:
            raise ValueError(f"--tier {text}: {field} needs a number") from None
    if own.keys() & {"fraction", "target"}:
        given["fraction"] = given["target"] = None
    values = {field: value for field, value in (given | own).items() if value is not None}
    return nnguard.Tier(name, **values)


def _function(text: str) -> Callable[[Any], float]:
    """Load a function from a file of the seller's own."""
    path, colon, name = text.rpartition(":")
    if not colon:
        raise ValueError(f"--evaluate {text}: give a file and a function, FILE.py:FUNCTION")
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"--evaluate {text}: {path} is no Python file")
    if not Path(path).is_file():
        raise FileNotFoundError(f"--evaluate {text}: there is no file {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses, among others, look for it there
    sys.path.insert(0, str(Path(path).resolve().parent))
    with _their_code(text, spec.origin):
        spec.loader.exec_module(module)
    function = getattr(module, name, None)
    if not callable(function):
        raise ValueError(f"--evaluate {text}: {path} has no function {name}")

    def evaluate(weights: Any) -> float:
        with _their_code(text, spec.origin):
            return float(function(weights))

    return evaluate


@contextlib.contextmanager
def _their_code(text: str, path: str | None) -> Iterator[None]:
    """Run the seller's code: what it prints is no result, and where it fails is told."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == path]
        where = f"line {lines[-1]}: " if lines else ""
        message = f"--evaluate {text}: {where}{type(error).__name__}: {error}"
        raise ValueError(message) from error


def _show_point(point: nnguard.CurvePoint) -> None:
    print(f"  {100 * point.fraction:.4f} % replaced: score {point.score:g}", file=sys.stderr)


def _unlock(options: argparse.Namespace) -> None:
    identity = load_identity(options.identity, options)
    license = nnguard.License.load(options.license)  # noqa: A001
    checks = checks_of(options)
    status = nnguard.check_license(license, options.trust, checks=checks)
    trial = nnguard.Stream.open(options.trial)
    with progress_bar(trial.size, "Unlocking") as progress:
        full = nnguard.unlock(
            trial,
            license,
            identity,
            options.trust,
            tier=options.tier,
            checks=checks,
            mark=options.mark,
            progress=progress,
        )
    full.save(options.output, overwrite=options.force)
    if options.json:
        result = {"ok": True, "file": options.output, "size": full.size}
        print_json({**result, **status.to_json()})
        return
    say(f"Unlocked: {options.output}, {full.size:,} bytes, tier {license.terms.tier}")
    if status.in_grace:
        say("  the license has expired and holds for its grace period only: renew it")
