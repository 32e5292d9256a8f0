"""`lock`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import click

import nnguard
from nnguard._base.atomic import named_together
from nnguard._cli.commands import Options, command
from nnguard._cli.compression import WORKERS
from nnguard._cli.evaluating import Search, load_function
from nnguard._cli.inputs import open_model
from nnguard._cli.keys import PASSPHRASE_FILE, load_signer
from nnguard._cli.options import argument, option, output, read_number, read_share, under
from nnguard._cli.output import Outcome, brief, progress_bar, warn
from nnguard._compression.admission import is_trial
from nnguard._models.stream_set import streams_of
from nnguard._operations.signatures import is_signed
from nnguard.errors import FormatError, LimitError

__all__ = ["run_lock"]

_LARGE = 1.5
"""Times as large as the release, a trial is more likely the release itself."""

_LISTED = 3
"""Tensors whose names are shown."""

_SOFT = (
    "--fraction and --target replace a few weights, and anybody can repair that with a few inputs: "
    "say --soft if a demonstration is all that you want, or give --trial another network"
)


def read_scramble(text: str) -> float | tuple[str, ...]:
    """Read a fraction, or names of tensors, joined by plus signs."""
    try:
        float(text)
    except ValueError:
        return tuple(text.split("+"))
    return read_share(text)


_AMOUNTS = {
    "fraction": read_share,
    "target": read_number,
    "tolerance": read_number,
    "max_fraction": read_share,
}
_FIELDS: dict[str, Any] = {"trial": str, "scramble": read_scramble, "soft": bool, **_AMOUNTS}
_NEEDS = {"trial": "a file", "soft": "no value"}


@command(
    argument("RELEASE", "Stream or folder of shards; sign it first."),
    output("Trial"),
    option("--content-key OUTPUT", "Content key to write: keep it secret.", required=True),
    option("--key FILE", "Private key (PEM) that signs the trial."),
    PASSPHRASE_FILE,
    under(
        "The lock",
        option(
            "--trial PATH",
            "Stream or folder of another network, which is given away and carries the release: an "
            "early checkpoint, a smaller one, the base of a fine-tuned one. It takes about a third "
            "of the release's weights, or less where tensors of both differ little.",
        ),
        option(
            "--allow-near",
            "With --trial: the two networks may be nearly the same, as a fine-tuned one and its "
            "base can be. Score both.",
        ),
        option(
            "--scramble SHARE|NAMES",
            "Scramble the first tensors with this fraction of all weights, and all of one "
            "dimension (0.05, where neither --trial nor --soft is given); or tensors by name or "
            "pattern: 'embedding.weight+layer1.*'.",
            read=read_scramble,
            default=None,
        ),
        option(
            "--traceable",
            "With --trial: each license opens a copy of its own, and nnguard trace finds whose "
            "copy a network was made with.",
        ),
        option("--soft", "Replace a few weights: a demonstration, which anybody can repair."),
        option(
            "--tier NAME[:FIELD=VALUE,...]...",
            "Name of what a license opens; repeated, highest first, it makes nested locks, each "
            "with its own trial, scramble, soft, fraction, target, tolerance or max-fraction.",
        ),
    ),
    under(
        "Scores",
        option(
            "--evaluate FILE.py:FUNCTION",
            "Your function: given the weights, a mapping of names to NumPy arrays, it returns a "
            "score; higher is better. The file is run. Release, trial, and what the key makes of "
            "the trial are scored; with --target, trials on the way to it.",
        ),
        option("--fraction SHARE", "With --soft: replace this fraction of all weights (1e-4)."),
        option("--target SCORE", "With --soft: replace as many as this score asks for."),
        option("--tolerance SCORE", "How far the score may be from the target (0.01)."),
        option("--max-fraction SHARE", "Replace no more for the target (0.01)."),
        option("--plot OUTPUT", "Draw the search: fraction against score."),
    ),
    WORKERS,
)
def run_lock(options: Options) -> Outcome:
    r"""Make a trial that a license unlocks.

    Make a file to give away that holds the release, encrypted. With --trial it is another network,
    and that is all that can be got out of it; without, it is the release with tensors scrambled.
    Any NNCodec decoder reads it.

    Examples:
      nnguard lock release.nnc --trial weaker.nnc -o trial.nnc --content-key content.key \
          --key vendor.key --evaluate score.py:accuracy
      nnguard lock release.nnc -o trial.nnc --content-key content.key --scramble 0.1
      nnguard lock release.nnc -o trial.nnc --content-key content.key --soft --target 0.4 \
          --evaluate score.py:accuracy
      nnguard lock release.nnc -o trial.nnc --content-key content.key \
          --tier professional:trial=medium.nnc --tier standard:trial=small.nnc
    """
    tiers = [_tier(text, options) for text in options.tier or ["full"]]
    _check_usage(options, tiers)
    evaluate = load_function(options.evaluate) if options.evaluate else None
    signer = None
    if options.key is not None:
        signer = load_signer(options.key, options.passphrase_file)
    release = open_model(options.release)
    streams, signed = streams_of(release).values(), True
    with contextlib.suppress(LimitError):
        signed = _is_signed(streams)
    with contextlib.suppress(LimitError):  # what takes too long to tell, nobody is told
        if any(is_trial(stream, verified=False) for stream in streams):
            warn(f"{options.release} is a locked trial: what a license opens will be that trial")
    trials = {str(tier.trial): open_model(str(tier.trial)) for tier in tiers if tier.trial}
    for name, trial in trials.items():
        if trial.size > _LARGE * release.size:
            warn(f"{name} is much larger than the release, and is given away: are they swapped?")
    sizes = [trials[str(tier.trial)].size if tier.trial else 0 for tier in tiers]
    with progress_bar(_work(release.size, sizes), "Locking") as progress:
        locks = nnguard.lock_tiers(
            release,
            tiers,
            evaluate=evaluate,
            signer=signer,
            workers=options.workers,
            spool=Path(options.output).parent,
            progress=progress,
            on_point=Search([tier.soft.target for tier in tiers if tier.soft]),
            traceable=bool(options.traceable),
            allow_near=options.allow_near,
        )
    _save(options, locks)
    if not signed:
        warn(f"{options.release} is not signed, nor will what a license opens be: sign it first")
    whole = release.size + sum(trial.size for trial in trials.values())
    values = {
        "file": options.output,
        "content_key": options.content_key,
        "size_before": release.size,
        "size": locks[-1].trial.size,
        "tiers": [_tier_json(locked) for locked in locks],
    }
    return Outcome(values, _lines(options, locks, whole))


def _is_signed(streams: Iterable[nnguard.Stream]) -> bool:
    try:
        return any(map(is_signed, streams))
    except FormatError:  # of a foreign encoder
        return False


def _tier(text: str, options: Options) -> nnguard.Tier:
    """Read `NAME[:FIELD=VALUE,...]`; what it leaves out is what the options say."""
    name, _, fields = text.partition(":")
    if not name:
        raise click.UsageError(f"--tier {text}: a tier needs a name")
    own = dict(_field(text, part) for part in fields.split(",") if part)
    given = {field: getattr(options, field) for field in _FIELDS}
    if "trial" in own:
        given = {}
    elif own.keys() & {"scramble", "soft", "fraction", "target"}:
        given["trial"] = None
    if own.keys() & {"fraction", "target"}:
        given |= {"fraction": None, "target": None}
    values = {
        field: value
        for field, value in (given | own).items()
        if value is not None and value is not False
    }
    amounts = {field: values.pop(field) for field in _AMOUNTS if field in values}
    if values.pop("soft", False):
        return nnguard.Tier(name, soft=nnguard.Soft(**amounts), **values)
    if amounts.keys() & {"fraction", "target"}:
        raise click.UsageError(_SOFT)
    return nnguard.Tier(name, **values)


def _field(text: str, part: str) -> tuple[str, Any]:
    """Read a field of `--tier`."""
    field, equals, value = part.partition("=")
    field = field.replace("-", "_")
    if field not in _FIELDS:
        raise click.UsageError(f"--tier {text}: {field} is not one of {', '.join(_FIELDS)}")
    if field == "soft" and not equals:
        return field, True
    if field == "soft" or not value:
        raise click.UsageError(f"--tier {text}: {field} needs {_NEEDS.get(field, 'a value')}")
    try:
        return field, _FIELDS[field](value)
    except ValueError as error:
        raise click.UsageError(f"--tier {text}: {field}: {error}") from None


def _check_usage(options: Options, tiers: Sequence[nnguard.Tier]) -> None:
    """Stop before a search whose result could not be kept, or would be kept at a loss."""
    aims = any(tier.soft and tier.soft.target is not None for tier in tiers)
    if aims and not options.evaluate:
        raise click.UsageError("--target takes a function that scores a network: give --evaluate")
    if not aims and (options.tolerance is not None or options.max_fraction is not None):
        raise click.UsageError("--tolerance and --max-fraction are for --target")
    if options.allow_near and not any(tier.trial for tier in tiers):
        raise click.UsageError("--allow-near is for --trial")
    for one, other in pairwise(tiers):
        if one.name != other.name and replace(one, name=other.name) == other:
            raise click.UsageError(
                f"tiers {one.name} and {other.name} have the same lock; give each its own: "
                f"--tier {one.name}:trial=medium.nnc --tier {other.name}:trial=small.nnc"
            )
    if options.plot is not None:
        if not aims:
            raise click.UsageError("--plot draws the search for a target: give --target, too")
        nnguard.plotting.check_picture(options.plot)
    outputs = [options.output, options.content_key, options.plot]
    paths = {Path(path).resolve(): path for path in outputs if path is not None}
    if len(paths) < len(outputs) - outputs.count(None):
        raise click.UsageError("trial, content key and plot are files of their own: rename one")
    for network in (options.release, *(str(tier.trial) for tier in tiers if tier.trial)):
        for path, name in paths.items():
            if Path(network).resolve() in (path, *path.parents):
                raise click.UsageError(f"the trial is made of {network}: write {name} elsewhere")


def _save(options: Options, locks: Sequence[nnguard.Locked]) -> None:
    def save_key() -> None:  # the key first: no trial is ever without
        locks[0].content_key.save(options.content_key, overwrite=options.force)

    trial = locks[-1].trial
    if isinstance(trial, nnguard.StreamSet):
        trial.save(options.output, overwrite=options.force, before=save_key)
        return
    with named_together():
        save_key()
        trial.save(options.output, overwrite=options.force)
        if options.plot is not None:
            nnguard.plotting.plot_search(locks, options.plot, overwrite=options.force)


def _lines(options: Options, locks: Sequence[nnguard.Locked], whole: int) -> Iterator[str]:
    after = locks[-1].trial.size
    share = 100 * (after - whole) / whole
    growth = f"{share:+.3f} %"
    if any(locked.carried for locked in locks):
        growth = f"{abs(share):.1f} % {'less' if share < 0 else 'more'} than the networks in it"
    yield f"Locked: {options.output}, {after:,} bytes ({growth})"
    for locked in locks:
        yield f"  tier {locked.tier}: {', '.join(_deeds(locked))}"
        yield f"  worth: {locked.worth}"
    yield f"Content key: {options.content_key} (keep it secret)"


def _work(size: int, given: Sequence[int]) -> int:
    """Return the bytes that are hashed and coded, about, for trials of such sizes; 0 for none."""
    done = 0
    for trial in given:
        done += size + (2 * trial or size)
        size += trial  # of the release of the next tier
    return done


def _deeds(locked: nnguard.Locked) -> Iterator[str]:
    """Say what a lock did, and what it did to the score."""
    if locked.carried:
        count = locked.differences
        near = f", {count:,} tensor{'s' * (count > 1)} as differences" if count else ""
        yield f"{locked.carried:,} bytes carried by another network{near}"
    if locked.license_key_size:
        yield f"traceable, {locked.license_key_size:,} bytes a license"
    if locked.replaced:
        share = 100 * locked.replaced / locked.weights
        yield f"{locked.replaced:,} weights replaced ({share:.4f} %)"
    if locked.scrambled:
        # Biases and the like are scrambled, too, and are not among the weights.
        share = min(100 * locked.scrambled / max(locked.weights, 1), 100)
        names = [brief(name) for name in locked.tensors[:_LISTED]]
        if more := len(locked.tensors) - len(names):
            names.append(f"{more} more")
        if not locked.named:
            names.append("all of one dimension")
        which = f": {', '.join(names)}" if names else ""
        yield f"{locked.scrambled:,} weights scrambled ({share:.1f} %){which}"
    if locked.curve:
        yield f"score {locked.curve[0].score:g} -> {locked.curve[-1].score:g}"
    if (scores := locked.scores) is not None:
        yield f"score {scores.release:g} -> {scores.trial:g}, unlocked {scores.unlocked:g}"


def _tier_json(locked: nnguard.Locked) -> dict[str, Any]:
    return {
        "tier": locked.tier,
        "carried": locked.carried,
        "differences": locked.differences,
        "near": locked.near,
        "license_key_size": locked.license_key_size,
        "shared": locked.shared,
        "scrambled": locked.scrambled,
        "tensors": list(locked.tensors),
        "replaced": locked.replaced,
        "weights": locked.weights,
        "curve": [{"fraction": point.fraction, "score": point.score} for point in locked.curve],
        "scores": None if locked.scores is None else asdict(locked.scores),
    }
