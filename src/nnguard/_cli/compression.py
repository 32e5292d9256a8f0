"""`compress`, `decompress`, and the options that say how."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import nnguard
from nnguard._cli.commands import Options, command
from nnguard._cli.inputs import open_model
from nnguard._cli.options import argument, authority, option, output, under
from nnguard._cli.output import Outcome, progress_bar
from nnguard._models.index import map_weights

__all__ = ["CODING", "compress_model", "has_settings", "run_compress", "run_decompress"]


def read_qp(text: str) -> tuple[str, int]:
    """Read `NAME=N`."""
    name, equals, qp = text.rpartition("=")
    if not name or not equals:
        raise ValueError(f"{text!r} is not NAME=N")
    try:
        return name, int(qp)
    except ValueError:
        raise ValueError(f"{qp!r} is not a number") from None


_DEFAULT = nnguard.Settings()
WORKERS = option("--workers N", "Use N threads (default: one for each processor).")
CODING = under(
    "Coding",
    option("--qp N", f"Quantization parameter of weights, lower is finer ({_DEFAULT.qp})."),
    option("--nonweight-qp N", f"Of tensors of one dimension ({_DEFAULT.nonweight_qp})."),
    option("--qp-of NAME=N...", "Of one tensor; may be repeated.", read=read_qp),
    option("--qp-density N", f"How many an octave, as a power of two ({_DEFAULT.qp_density})."),
    option("--urq", "Uniform instead of trellis-coded quantization."),
    option("--fast", "No parameter optimization: some percent larger, three times as fast."),
    option("--no-row-skipping", "Code all-zero rows like all others."),
    option(
        "--scan-order N",
        "1 to 4: code tensors in blocks, of 8 to 64 rows and columns, so that several threads can "
        f"decode one large tensor; such tensors cannot carry a record or be locked "
        f"({_DEFAULT.scan_order}: row by row).",
    ),
    WORKERS,
)
_NUMBERS = ("qp", "nonweight_qp", "qp_density", "scan_order")


def _settings_of(options: Options) -> nnguard.Settings:
    """Return the settings that the options name."""
    given = {name: getattr(options, name) for name in _NUMBERS}
    return nnguard.Settings(
        **{name: value for name, value in given.items() if value is not None},
        qp_per_tensor=dict(options.qp_of),
        dependent=not options.urq,
        parameter_optimization=not options.fast,
        row_skipping=not options.no_row_skipping,
    )


def has_settings(options: Options) -> bool:
    """Return whether there are options of the coder."""
    return _settings_of(options) != nnguard.Settings() or options.workers is not None


def compress_model(options: Options) -> nnguard.Stream | nnguard.StreamSet:
    """Compress the model that the options name, with a progress bar."""
    with progress_bar(_size_of(Path(options.model)), "Compressing") as progress:
        return nnguard.compress(
            Path(options.model),
            _settings_of(options),
            workers=options.workers,
            spool=Path(options.output).parent,
            progress=progress,
        )


def _size_of(model: Path) -> int:
    """Return the bytes of a file, or of the shards that a folder's index lists."""
    if not model.is_dir():
        return model.stat().st_size
    return sum((model / name).stat().st_size for name in _shards(model))


def _shards(folder: Path) -> set[str]:
    return set(map_weights(folder).values())


@command(
    argument("MODEL", ".safetensors, .pt, .pth, .bin, .ckpt, or a folder of safetensors."),
    output("Stream, or folder of streams,"),
    CODING,
)
def run_compress(options: Options) -> Outcome:
    """Compress a model to an NNCodec stream.

    Compress a safetensors file, a PyTorch checkpoint, or a folder with one safetensors file, or
    several and their index; the files beside them are kept. Integers stay as they are, all else is
    quantized.

    Examples:
      nnguard compress model.safetensors -o model.nnc
      nnguard compress checkpoint.pth -o model.nnc --qp -32 --urq
      nnguard compress sharded-model -o streams
    """
    start = time.monotonic()
    model = Path(options.model)
    _keep_input(model, options.output, "the model")
    stream = compress_model(options)
    stream.save(options.output, overwrite=options.force)
    before, after = _size_of(model), stream.size
    share = f"{after:,} bytes ({100 * after / max(before, 1):.1f} % of {before:,})"
    others = stream.others if isinstance(stream, nnguard.StreamSet) else ()
    left = [name for name in others if not name.endswith(".safetensors.index.json")]
    return _report(options, f"Compressed: {options.output}, {share}", before, after, start, left)


@command(
    argument("FILE", "Stream, or a folder of streams."),
    output("Safetensors file, or folder of shards,"),
    option("--trust PATH...", "Verify first: trusted public keys, as for verify."),
    option("--policy FILE", "Verify first, by a trust policy, in place of --trust."),
    option("--allow-trial", "Decode a locked trial, too, which is not the product."),
    option(
        "--max-size N",
        "Refuse streams that decode to more bytes (128 times their size, and 128 MiB in any case; "
        "no limit with --trust).",
    ),
    WORKERS,
)
def run_decompress(options: Options) -> Outcome:
    """Decode a stream to a safetensors file.

    Decode a stream, or a folder of them, to safetensors. Nothing is verified unless --trust says
    whose signature to check. A locked trial is refused unless --allow-trial says that it is what
    you want.

    Examples:
      nnguard decompress model.nnc -o model.safetensors
      nnguard decompress release.nnc -o model.safetensors --trust vendor.pub
    """
    start = time.monotonic()
    _keep_input(Path(options.file), options.output, "the stream, with all that is hidden in it")
    verify = bool(options.trust or options.policy)
    model = open_model(options.file, in_memory=verify)
    if verify:  # the same bytes are verified and decoded, whatever becomes of the file
        with progress_bar(model.size, "Verifying") as progress:
            nnguard.verify(
                model, **authority(options), allow_trial=options.allow_trial, progress=progress
            )
    with progress_bar(None, "Decompressing") as progress:
        nnguard.decompress_to_file(
            model,
            options.output,
            allow_trial=options.allow_trial,
            workers=options.workers,
            max_size=options.max_size,
            verified=verify,
            overwrite=options.force,
            progress=progress,
        )
    before, after = model.size, _size_of(Path(options.output))
    sizes = f"{_in_words(after)} of weights from {_in_words(before)}"
    return _report(options, f"Decompressed: {options.output}, {sizes}", before, after, start)


def _keep_input(file: Path, output: str, what: str) -> None:
    """Refuse to replace a file by what is made of it."""
    if Path(output).exists() and file.exists() and Path(output).samefile(file):
        raise FileExistsError(f"{output} is {what}; write elsewhere")


def _report(
    options: Options, done: str, before: int, after: int, start: float, left: Sequence[str] = ()
) -> Outcome:
    """Say what was done since then, and what was left out; the rate is that of the larger side."""
    seconds = time.monotonic() - start

    def lines() -> Iterator[str]:
        rate = max(before, after) / 1e6 / max(seconds, 1e-9)
        yield f"{done}, {seconds:.1f} s, {rate:.1f} MB/s"
        if left:
            yield f"  left out: {', '.join(left)}: copy them, if whoever loads the model needs them"

    sizes = {"size_before": before, "size": after, "seconds": round(seconds, 3)}
    left_out = {"left_out": [*left]} if left else {}
    return Outcome({"file": options.output, **sizes, **left_out}, lines())


def _in_words(size: int) -> str:
    """Return a number of bytes in the unit that suits it."""
    return f"{size / 1e6:,.1f} MB" if size >= 1e6 else f"{size / 1e3:,.1f} kB"
