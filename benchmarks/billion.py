"""Cost of a model of a billion weights in shards, from its files to a release and back.

    python benchmarks/billion.py make FOLDER [--shapes llama | mpnet] [--layers N] [--part 0.1]
    python benchmarks/billion.py run FOLDER --work FOLDER [--openssl] [--only COMMAND ...]
        [--trial FOLDER]

`make` writes random weights in the shapes of TinyLlama (three shards of bfloat16, the last with the
embeddings, the head and the last norm) or of all-mpnet-base-v2 (one file of float32). The same
arguments make the same bytes. `--part` takes so much of the vocabulary and of the layers.

`run` runs whole processes of the installed package in turn, URQ: `nnguard compress`, `sign`,
`verify`, `decompress`; with `--openssl`, `openssl dgst -sha256` of the files that each command
reads just before it, which also brings them into the page cache. With `--trial`, a smaller
model that `make` wrote with another `--seed`, `lock` has that carry the release, and `unlock`
restores it, which is compared byte for byte; compressing the trial and issuing the license are not
measured. Each line of the Markdown is
printed once it is measured. What the commands write stays in the work folder, so that `--only`
goes on from there. Memory is sampled every 50 ms, see `peak_memory.py`. Linux only.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import math
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
import numpy.typing as npt

from peak_memory import INTERVAL, Peak, read, tree

INDEX = "model.safetensors.index.json"
COMMANDS = ("compress", "sign", "verify", "decompress", "lock", "unlock")
NNGUARD = (sys.executable, "-m", "nnguard")
SEED = 15938
BLOCK = 1 << 22
"""Weights that are made at a time."""

Shapes = dict[str, tuple[int, ...]]

_SUMS = re.compile(r"^(Rss|Pss|Anonymous): +(\d+) kB$", re.MULTILINE)


def main() -> int:
    """Make a model, or measure one."""
    options = parse_arguments()
    try:
        return int(options.do(options))
    except OSError as error:
        print(error, file=sys.stderr)
        return 2


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    maker = actions.add_parser("make", help="write a model of random weights")
    maker.add_argument("folder", type=Path, help="new folder")
    maker.add_argument("--shapes", choices=("llama", "mpnet"), default="llama")
    maker.add_argument("--layers", type=int, metavar="N", help="layers instead of all")
    maker.add_argument("--part", type=float, default=1, help="of vocabulary and layers, up to 1")
    maker.add_argument("--seed", type=int, default=SEED, help="for other weights (%(default)s)")
    maker.set_defaults(do=make)
    runner = actions.add_parser("run", help="measure the commands on a model")
    runner.add_argument("folder", type=Path, help="folder that make wrote, or of other shards")
    runner.add_argument("--work", type=Path, required=True, help="folder for what is written")
    runner.add_argument("--trial", type=Path, help="folder of the model that carries this one")
    runner.add_argument("--openssl", action="store_true", help="compare with hashing")
    runner.add_argument("--only", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    runner.add_argument("--runs", type=int, default=3, help="of openssl, sign, verify: medians")
    runner.add_argument("--workers", type=int, help="threads of compress and decompress")
    runner.set_defaults(do=run)
    options = parser.parse_args()
    if options.do is make and not 0 < options.part <= 1:
        parser.error("--part is above 0 and at most 1")
    if options.do is make and options.layers is not None and options.layers < 1:
        parser.error("--layers is at least 1")
    if options.do is run and options.runs < 1:
        parser.error("--runs is at least 1")
    return options


def make(options: argparse.Namespace) -> int:
    """Write a model of random weights."""
    options.folder.mkdir(parents=True)
    if options.shapes == "llama":
        layers = options.layers or max(1, round(22 * options.part))
        files = llama(layers, max(1, round(32_000 * options.part)))
        kind: npt.DTypeLike = ml_dtypes.bfloat16
    else:
        layers = options.layers or max(1, round(12 * options.part))
        files = mpnet(layers, max(1, round(30_527 * options.part)))
        kind = np.float32
    weights = 0
    for file, shapes in files.items():
        write_safetensors(options.folder / file, shapes, np.dtype(kind), options.seed)
        weights += sum(map(math.prod, shapes.values()))
        print(f"{options.folder / file}: {len(shapes)} tensors", flush=True)
    if len(files) > 1:
        index = {
            "metadata": {"total_size": weights * np.dtype(kind).itemsize},
            "weight_map": {name: file for file, shapes in files.items() for name in shapes},
        }
        (options.folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")
    print(f"{weights:,} weights in {layers} layers")
    return 0


def llama(layers: int, vocabulary: int) -> dict[str, Shapes]:
    """Return the shards of TinyLlama: file names to names and shapes of their tensors."""
    hidden, inner, keys = 2048, 5632, 256
    inside: Shapes = {}
    for layer in range(layers):
        at = f"model.layers.{layer}"
        inside[f"{at}.input_layernorm.weight"] = (hidden,)
        inside[f"{at}.mlp.down_proj.weight"] = (hidden, inner)
        inside[f"{at}.mlp.gate_proj.weight"] = (inner, hidden)
        inside[f"{at}.mlp.up_proj.weight"] = (inner, hidden)
        inside[f"{at}.post_attention_layernorm.weight"] = (hidden,)
        inside[f"{at}.self_attn.k_proj.weight"] = (keys, hidden)
        inside[f"{at}.self_attn.o_proj.weight"] = (hidden, hidden)
        inside[f"{at}.self_attn.q_proj.weight"] = (hidden, hidden)
        inside[f"{at}.self_attn.v_proj.weight"] = (keys, hidden)
    outside: Shapes = {
        "model.embed_tokens.weight": (vocabulary, hidden),
        "lm_head.weight": (vocabulary, hidden),
        "model.norm.weight": (hidden,),
    }
    half, tensors = len(inside) // 2, list(inside.items())
    shards = (dict(tensors[:half]), dict(tensors[half:]), outside)
    return {f"model-{at:05}-of-00003.safetensors": shard for at, shard in enumerate(shards, 1)}


def mpnet(layers: int, vocabulary: int) -> dict[str, Shapes]:
    """Return the one file of all-mpnet-base-v2: its name to names and shapes of its tensors."""
    hidden, inner = 768, 3072
    shapes: Shapes = {
        "embeddings.word_embeddings.weight": (vocabulary, hidden),
        "embeddings.position_embeddings.weight": (514, hidden),
        "embeddings.LayerNorm.weight": (hidden,),
        "embeddings.LayerNorm.bias": (hidden,),
        "encoder.relative_attention_bias.weight": (32, 12),
    }
    for layer in range(layers):
        at = f"encoder.layer.{layer}"
        dense = {f"{at}.attention.attn.{which}": (hidden, hidden) for which in "qkvo"}
        dense[f"{at}.intermediate.dense"] = (inner, hidden)
        dense[f"{at}.output.dense"] = (hidden, inner)
        for name, shape in dense.items():
            shapes[f"{name}.weight"] = shape
            shapes[f"{name}.bias"] = shape[:1]
        for norm in (f"{at}.attention.LayerNorm", f"{at}.output.LayerNorm"):
            shapes[f"{norm}.weight"] = shapes[f"{norm}.bias"] = (hidden,)
    shapes["pooler.dense.weight"] = (hidden, hidden)
    shapes["pooler.dense.bias"] = (hidden,)
    return {"model.safetensors": shapes}


def write_safetensors(
    path: Path, shapes: Mapping[str, tuple[int, ...]], kind: np.dtype, seed: int
) -> None:
    """Write a file of random weights, of which only a few megabytes are in memory."""
    code = {"bfloat16": "BF16", "float32": "F32"}[kind.name]
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + math.prod(shape) * kind.itemsize
        header[name] = {"dtype": code, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("xb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            for block in weights_of(name, shape, seed):
                file.write(block.astype(kind).tobytes())


def weights_of(name: str, shape: Sequence[int], seed: int) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the weights of a tensor, block by block; its name is part of the seed.

    Norms lie between 0.3 and 1.5. Half of all other tensors are normally distributed and half
    Laplace distributed, with a deviation of 0.016 to 0.025.
    """
    rng = np.random.default_rng([seed, *name.encode()])
    deviation = np.float32(rng.uniform(0.016, 0.025))
    normal = rng.random() < 0.5
    size = math.prod(shape)
    for start in range(0, size, BLOCK):
        count = min(BLOCK, size - start)
        if name.lower().endswith("norm.weight"):
            yield rng.uniform(0.3, 1.5, count).astype(np.float32)
        elif normal:
            yield deviation * rng.standard_normal(count, np.float32)
        else:
            block = rng.standard_exponential(count, np.float32)
            block -= rng.standard_exponential(count, np.float32)
            yield block * (deviation / np.float32(math.sqrt(2)))


@dataclass(frozen=True)
class Step:
    """A command to measure.

    Attributes:
        name: Of the command.
        reads: File or folder that it reads.
        writes: File or folder that it writes, if any.
        options: Its other arguments.
        runs: How often to run it.
    """

    name: str
    reads: Path
    writes: Path | None
    options: tuple[str, ...]
    runs: int

    @property
    def command(self) -> list[str]:
        """The whole command."""
        output = () if self.writes is None else ("-o", str(self.writes))
        return [*NNGUARD, self.name, str(self.reads), *output, *self.options]


def run(options: argparse.Namespace) -> int:
    """Measure the commands on a model and print the table."""
    sharded = (options.folder / INDEX).exists()
    model = options.folder if sharded else options.folder / "model.safetensors"
    weights = sum(map(count_weights, files_of(model)))
    options.work.mkdir(parents=True, exist_ok=True)
    if not (options.work / "vendor.key").exists():
        subprocess.run([*NNGUARD, "keygen", options.work / "vendor"], stdout=sys.stderr, check=True)
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; "
        f"{options.folder.name}: {weights / 1e6:,.1f} M weights, {size_of(model) / 1e6:,.0f} MB in "
        f"{len(files_of(model))} files; URQ; medians of {options.runs} runs, of compress and "
        "decompress one\n"
    )
    print("| command | seconds | s a million weights | of openssl | resident MB | ", end="")
    print("shared pages once MB | in no file MB | bytes written |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|", flush=True)
    for step in steps(options, model, sharded):
        if step.name in options.only:
            if step.name in ("lock", "unlock"):
                prepare(options, step, suffix="" if sharded else ".nnc")
            measure_step(step, weights, with_openssl=options.openssl)
            if step.name == "decompress" and step.writes is not None:
                found = sum(map(count_weights, files_of(step.writes)))
                assert found == weights, f"{found:,} weights came back"
            if step.name == "unlock" and step.writes is not None:
                release = files_of(release_of(options, sharded))
                pairs = zip(files_of(step.writes), release, strict=True)
                assert all(filecmp.cmp(*pair, shallow=False) for pair in pairs), "not the release"
    return 0


def release_of(options: argparse.Namespace, sharded: bool) -> Path:
    """Return where the signed model is."""
    work: Path = options.work
    return work / ("release" if sharded else "release.nnc")


def prepare(options: argparse.Namespace, step: Step, suffix: str) -> None:
    """Compress the trial before locking; issue the license before unlocking."""
    work = options.work
    weaker, trial = work / f"weaker{suffix}", work / f"trial{suffix}"
    commands: list[list[str | Path]] = []
    if step.name == "lock" and not weaker.exists():
        source = options.trial if not suffix else options.trial / "model.safetensors"
        commands = [["compress", source, "-o", weaker, "--urq"]]
    elif step.name == "unlock":
        if not (work / "customer.key").exists():
            commands = [["keygen", work / "customer", "--identity"]]
        issue = ["license", "issue", trial, "-o", work / "license", "--force"]
        issue += ["--key", work / "vendor.key", "--content-key", work / "content.key"]
        commands += [[*issue, "--to", work / "customer.pub", "--ledger", work / "licenses.db"]]
    for command in commands:
        subprocess.run([*NNGUARD, *command], stdout=sys.stderr, check=True)


def steps(options: argparse.Namespace, model: Path, sharded: bool) -> list[Step]:
    """Return the commands to measure, in order."""
    suffix, plain = ("", "") if sharded else (".nnc", ".safetensors")
    streams, release = (options.work / f"{name}{suffix}" for name in ("streams", "release"))
    weights = options.work / f"weights{plain}"
    key, trust = str(options.work / "vendor.key"), str(options.work / "vendor.pub")
    workers = () if options.workers is None else ("--workers", str(options.workers))
    signing = ("--key", key, "--issuer", "acme.ai", "--name", "billion")
    return [
        Step("compress", model, streams, ("--urq", *workers), 1),
        Step("sign", streams, release, signing, options.runs),
        Step("verify", release, None, ("--trust", trust), options.runs),
        Step("decompress", release, weights, workers, 1),
        *([] if options.trial is None else selling(options, release, suffix)),
    ]


def selling(options: argparse.Namespace, release: Path, suffix: str) -> list[Step]:
    """Return the commands that lock and unlock."""
    work = options.work
    weaker, trial, full = (work / f"{name}{suffix}" for name in ("weaker", "trial", "full"))
    lock = ("--trial", weaker, "--content-key", work / "content.key", "--key", work / "vendor.key")
    unlock = ("--license", work / "license", "--identity", work / "customer.key")
    return [
        Step("lock", release, trial, (*map(str, lock), "--force"), 1),
        Step("unlock", trial, full, (*map(str, unlock), "--trust", str(work / "vendor.pub")), 1),
    ]


def measure_step(step: Step, weights: int, *, with_openssl: bool) -> None:
    """Run a command, in turns with openssl, and print their rows."""
    hashing, own = [], []
    for _ in range(step.runs):
        if with_openssl:
            command = ["openssl", "dgst", "-sha256", *map(str, files_of(step.reads))]
            hashing.append(watch(command))
        if step.writes is not None:
            remove(step.writes)
        print(f"{step.name} ...", file=sys.stderr, flush=True)
        own.append(watch(step.command))
    reference = statistics.median(peak.seconds for peak in hashing) if hashing else None
    if hashing:
        print_row(f"openssl, {size_of(step.reads) / 1e6:,.0f} MB", hashing, weights, reference)
    written = "" if step.writes is None else f"{size_of(step.writes):,}"
    if step.name == "sign" and step.writes is not None:
        written += f" ({size_of(step.writes) - size_of(step.reads):+,})"
    print_row(step.name, own, weights, reference, written)


def print_row(
    name: str, peaks: Sequence[Peak], weights: int, reference: float | None, written: str = ""
) -> None:
    """Print a line of the table: the median of seconds, the most of memory."""
    seconds = statistics.median(peak.seconds for peak in peaks)
    cells = [
        name,
        f"{seconds:.2f}",
        f"{seconds / weights * 1e6:.4f}",
        "" if reference is None else f"{seconds / reference:.2f}",
    ]
    for kind in ("resident", "proportional", "anonymous"):
        cells.append(f"{max(getattr(peak, kind) for peak in peaks) / 1e6:,.0f}")
    print(f"| {' | '.join(cells)} | {written} |", flush=True)


def watch(command: Sequence[str]) -> Peak:
    """Run a command; return its seconds, to the millisecond, and the memory of its processes.

    Raises:
        SystemExit: It failed.
    """
    peak = Peak()
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def wait() -> None:
        process.wait()
        peak.seconds = time.perf_counter() - started

    waiter = threading.Thread(target=wait)
    waiter.start()
    pause = INTERVAL / 32  # short commands are watched too
    while waiter.is_alive():
        sample(process.pid, peak)
        waiter.join(pause)
        pause = min(2 * pause, INTERVAL)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with exit status {process.returncode}")
    return peak


def sample(pid: int, peak: Peak) -> None:
    """Note what a process and all below it hold now, where it is more than before."""
    sums = {"Rss": 0, "Pss": 0, "Anonymous": 0}
    for each in tree(pid):
        for name, kilobytes in _SUMS.findall(read(each, "smaps_rollup")):
            sums[name] += 1024 * int(kilobytes)
    peak.resident = max(peak.resident, sums["Rss"])
    peak.proportional = max(peak.proportional, sums["Pss"])
    peak.anonymous = max(peak.anonymous, sums["Anonymous"])


def files_of(path: Path) -> list[Path]:
    """Return the model's files in a folder, or the one file."""
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if file.suffix in (".nnc", ".safetensors"))


def size_of(path: Path) -> int:
    """Return the bytes of the model's files in a folder, or of the one file."""
    return sum(file.stat().st_size for file in files_of(path))


def count_weights(path: Path) -> int:
    """Return how many numbers a safetensors file has."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    header.pop("__metadata__", None)
    return sum(math.prod(entry["shape"]) for entry in header.values())


def remove(path: Path) -> None:
    """Remove what a command wrote before, so that it writes new files."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
