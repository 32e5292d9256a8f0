"""`compress`, `decompress`, and the options that say how."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import nnguard
from nnguard._cli.output import add_json, add_output, print_json, progress_bar, say

__all__ = [
    "add_commands",
    "add_settings",
    "add_workers",
    "compress_folder",
    "compress_model",
    "refuse_settings",
]


def add_commands(commands: Any) -> None:
    """Add `compress` and `decompress`."""
    parser = commands.add_parser(
        "compress",
        help="compress a model to an NNCodec stream",
        description="Compress a safetensors file, a PyTorch checkpoint, or a folder of safetensors "
        "shards with its index. Integers are kept as they are, all else is quantized.",
        epilog="examples:\n"
        "  nnguard compress model.safetensors -o model.nnc\n"
        "  nnguard compress checkpoint.pth -o model.nnc --qp -32 --urq\n"
        "  nnguard compress sharded-model -o streams",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "model", metavar="MODEL", help=".safetensors, .pt, .pth, .bin, .ckpt, or a folder of shards"
    )
    add_output(parser, what="stream, or folder of streams,")
    add_settings(parser)
    add_workers(parser)
    add_json(parser)
    parser.set_defaults(run=_compress)

    parser = commands.add_parser(
        "decompress",
        help="decode a stream to a safetensors file",
        description="Decode a stream, or a folder of them, to safetensors. Nothing is verified "
        "unless --trust says whose signature to check.",
        epilog="examples:\n"
        "  nnguard decompress model.nnc -o model.safetensors\n"
        "  nnguard decompress release.nnc -o model.safetensors --trust vendor.pub",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="FILE", help="stream, or a folder of streams")
    add_output(parser, what="safetensors file, or folder of shards,")
    parser.add_argument(
        "--trust",
        action="append",
        metavar="PATH",
        help="verify first: trusted public keys, a PEM file or a directory; may be repeated",
    )
    parser.add_argument(
        "--max-size",
        type=int,
        metavar="BYTES",
        help="refuse streams that decode to more (128 times their size, and 128 MiB in any case; "
        "no limit with --trust)",
    )
    add_workers(parser)
    add_json(parser)
    parser.set_defaults(run=_decompress)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add the options of the coder."""
    default = nnguard.Settings()
    group = parser.add_argument_group("coding")
    group.add_argument(
        "--qp",
        type=int,
        default=default.qp,
        metavar="N",
        help="quantization parameter of weights, lower is finer (%(default)s)",
    )
    group.add_argument(
        "--nonweight-qp",
        type=int,
        default=default.nonweight_qp,
        metavar="N",
        help="the same for tensors of one dimension (%(default)s)",
    )
    group.add_argument(
        "--qp-of",
        action="append",
        default=[],
        type=_named_qp,
        metavar="NAME=N",
        help="the same for one tensor; may be repeated",
    )
    group.add_argument(
        "--qp-density",
        type=int,
        default=default.qp_density,
        metavar="N",
        help="quantization parameters an octave, as a power of two (%(default)s)",
    )
    group.add_argument(
        "--urq", action="store_true", help="uniform instead of trellis-coded quantization"
    )
    group.add_argument(
        "--fast",
        action="store_true",
        help="no parameter optimization: some percent larger, about three times as fast",
    )
    group.add_argument(
        "--no-row-skipping", action="store_true", help="code all-zero rows like all others"
    )
    group.add_argument(
        "--scan-order",
        type=int,
        default=default.scan_order,
        metavar="N",
        help="1 to 4: code tensors in blocks, of 8 to 64 rows and columns, so that several threads "
        "can decode one large tensor; such tensors cannot carry a record or be locked "
        "(%(default)s: row by row)",
    )


def _settings_of(options: argparse.Namespace) -> nnguard.Settings:
    """Return the settings that the options name."""
    return nnguard.Settings(
        qp=options.qp,
        nonweight_qp=options.nonweight_qp,
        qp_per_tensor=dict(options.qp_of),
        qp_density=options.qp_density,
        dependent=not options.urq,
        parameter_optimization=not options.fast,
        row_skipping=not options.no_row_skipping,
        scan_order=options.scan_order,
    )


def refuse_settings(options: argparse.Namespace) -> None:
    """Refuse options of the coder where nothing is coded.

    Raises:
        ValueError: There are some.
    """
    if _settings_of(options) != nnguard.Settings() or options.workers is not None:
        raise ValueError(f"{options.model} is compressed already: no coding options apply")


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Add the option for the number of threads."""
    parser.add_argument(
        "--workers", type=int, metavar="N", help="threads (as many as there are processors)"
    )


def compress_model(options: argparse.Namespace, spool: Path) -> nnguard.Stream:
    """Compress the model that the options name, with a progress bar."""
    with progress_bar(Path(options.model).stat().st_size, "Compressing") as progress:
        return nnguard.compress(
            options.model,
            _settings_of(options),
            workers=options.workers,
            spool=spool,
            progress=progress,
        )


def compress_folder(options: argparse.Namespace, output: Path) -> Path:
    """Compress the folder of shards that the options name, with a progress bar."""
    model = Path(options.model)
    with progress_bar(_size_of_shards(model), "Compressing") as progress:
        nnguard.compress_set(
            model,
            output,
            _settings_of(options),
            workers=options.workers,
            overwrite=options.force,
            progress=progress,
        )
    return output


def _size_of_shards(folder: Path) -> int:
    """Return the bytes of the shards that a folder's index lists; there may be other files."""
    return sum((folder / name).stat().st_size for name in nnguard.shard_names(folder))


def _total_size(folder: Path, suffix: str) -> int:
    """Return the bytes of a folder's files with this suffix."""
    return sum(path.stat().st_size for path in folder.glob(f"*{suffix}"))


def _compress(options: argparse.Namespace) -> None:
    start = time.monotonic()
    model, output = Path(options.model), Path(options.output)
    if model.is_dir():
        before = _size_of_shards(model)
        after = _total_size(compress_folder(options, output), ".nnc")
    else:
        before = model.stat().st_size
        _keep_input(model, output, "the model, which its stream cannot give back exactly")
        stream = compress_model(options, output.parent)
        stream.save(output, overwrite=options.force)
        after = stream.size
    share = f"{after:,} bytes ({100 * after / max(before, 1):.1f} % of {before:,})"
    _report(options, f"Compressed: {options.output}, {share}", before, after, start)


def _keep_input(file: Path, output: Path, what: str) -> None:
    """Refuse to replace a file by what is made of it."""
    if output.exists() and output.samefile(file):
        raise FileExistsError(f"{output} is {what}")


def _decompress(options: argparse.Namespace) -> None:
    start = time.monotonic()
    file, output = Path(options.file), Path(options.output)
    _keep_input(file, output, "the stream, with all that is hidden in it")
    limits: dict[str, Any] = {
        "workers": options.workers,
        "max_size": options.max_size,
        "verified": options.trust is not None,
    }
    if file.is_dir():
        streams = nnguard.StreamSet.open(file, in_memory=options.trust is not None)
        if options.trust is not None:
            with progress_bar(streams.size, "Verifying") as progress:
                nnguard.verify_set(streams, options.trust, progress=progress)
        before = streams.size
        with progress_bar(None, "Decompressing") as progress:
            nnguard.decompress_set(
                streams, output, overwrite=options.force, progress=progress, **limits
            )
        after = _total_size(output, ".safetensors")
    else:
        stream = nnguard.Stream.open(file)
        if options.trust is not None:
            # The same bytes are verified and decoded, whatever becomes of the file meanwhile.
            stream = stream.in_memory()
            with progress_bar(stream.size, "Verifying") as progress:
                nnguard.verify(stream, options.trust, progress=progress)
        before = stream.size
        with progress_bar(None, "Decompressing") as progress:
            nnguard.decompress_to_file(
                stream, output, overwrite=options.force, progress=progress, **limits
            )
        after = output.stat().st_size
    sizes = f"{_in_words(after)} of weights from {_in_words(before)}"
    _report(options, f"Decompressed: {options.output}, {sizes}", before, after, start)


def _report(options: argparse.Namespace, done: str, before: int, after: int, start: float) -> None:
    """Say what was done since then; the rate is that of the larger side."""
    seconds = time.monotonic() - start
    if options.json:
        sizes = {"size_before": before, "size": after, "seconds": round(seconds, 3)}
        print_json({"ok": True, "file": options.output, **sizes})
        return
    rate = max(before, after) / 1e6 / max(seconds, 1e-9)
    say(f"{done}, {seconds:.1f} s, {rate:.1f} MB/s")


def _in_words(size: int) -> str:
    """Return a number of bytes in the unit that suits it."""
    return f"{size / 1e6:,.1f} MB" if size >= 1e6 else f"{size / 1e3:,.1f} kB"


def _named_qp(text: str) -> tuple[str, int]:
    name, equals, qp = text.rpartition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=N")
    try:
        return name, int(qp)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{qp!r} is not a number") from None
