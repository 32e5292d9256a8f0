"""Fuzzing by coverage what reads models: safetensors, checkpoints, index files; with atheris.

python tests/fuzz/models.py safetensors CORPUS -max_total_time=60    (make fuzz-models SECONDS=60)

Inputs are mutated in their structure: entries of a header, opcodes of a pickle in an archive that
is whole, names in an index. Laws: only NnguardError comes out; what nnguard reads the safetensors
package reads, with the same values; what nnguard and PyTorch both read has the same values.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import pickle
import pickletools
import random
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import atheris
import numpy as np

import nnguard
import nnguard._models.checkpoints  # names of nnguard load with their first use
import nnguard._models.safetensors
from nnguard._models.index import read_index
from nnguard._models.tensors import Tensor
from nnguard.errors import ModelError, NnguardError

FOLDER = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
LARGEST = 1 << 16
"""Values of a tensor that is read."""

NUMBERS = (0, 1, 2, 3, 7, 8, 31, 32, 33, 255, 1 << 16, (1 << 31) - 1, 1 << 31, 1 << 62, 1 << 63, -1)
TEXTS = ("", "w", "a" * 40, "__metadata__", "é", "\0", "\ud800", "..", "a/b", "F32", "I8", "BF16")

Values = dict[str, tuple[tuple[int, ...], bytes]]


def values(read: Callable[[Path], list[Tensor]], file: str, data: bytes) -> Values | None:
    """Read all tensors that are not too large; None where the file is refused."""
    path = FOLDER / file
    path.write_bytes(data)
    try:
        return {
            tensor.name: (tensor.shape, tensor.values.read(0, tensor.size).tobytes())
            for tensor in read(path)
            if tensor.size <= LARGEST
        }
    except NnguardError:
        return None


def one_safetensors(data: bytes) -> None:
    found = values(nnguard._models.safetensors.read_safetensors, "model.safetensors", data)
    if found is None:
        return
    library = dict(safetensors.deserialize(data))
    for name, (shape, array) in found.items():
        assert tuple(library[name]["shape"]) == shape, name
        assert bytes(library[name]["data"]) == array, name


def one_checkpoint(data: bytes) -> None:
    found = values(nnguard._models.checkpoints.read_checkpoint, "model.pt", data)
    if found is None:
        return
    try:
        peer = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    except Exception:  # stricter about sums, and about all that is not a weight
        return
    for key in (None, *nnguard._models.checkpoints._USUAL_KEYS):
        state = peer if key is None else peer.get(key)
        if isinstance(state, dict) and state.keys() >= found.keys() and found:
            break
    for name, (shape, array) in found.items():
        flat = state[name].detach().contiguous().reshape(-1)
        assert tuple(state[name].shape) == shape, name
        assert flat.view(torch.uint8).numpy().tobytes() == array if flat.numel() else not array


def one_index(data: bytes) -> None:
    path = FOLDER / "model.safetensors.index.json"
    path.write_bytes(data)
    with contextlib.suppress(NnguardError):
        for name, file in read_index(FOLDER, ".safetensors", ModelError).items():
            assert isinstance(name, str)
            assert (FOLDER / file).parent == FOLDER
            assert os.fsencode(file)


def change_json(value: Any, rng: random.Random) -> Any:
    """Change one thing somewhere in a JSON value."""
    if isinstance(value, dict) and value and rng.random() < 0.8:
        pairs = list(value.items())
        at = rng.randrange(len(pairs))
        name, held = pairs[at]
        match rng.randrange(6):
            case 0:
                del pairs[at]
            case 1:
                pairs.append((name + rng.choice(TEXTS), held))
            case 2:
                pairs[at] = rng.choice(TEXTS), held
            case _:
                pairs[at] = name, change_json(held, rng)
        return dict(pairs)
    if isinstance(value, list) and value and rng.random() < 0.8:
        at = rng.randrange(len(value))
        match rng.randrange(5):
            case 0:
                return value[:at] + value[at + 1 :]
            case 1:
                return value[:at] + [value[at]] * rng.choice((2, 33, 500)) + value[at + 1 :]
            case _:
                return [*value[:at], change_json(value[at], rng), *value[at + 1 :]]
    if isinstance(value, int) and rng.random() < 0.6:
        return value + rng.choice((-1, 1, 4, -4, value))
    if isinstance(value, str) and rng.random() < 0.6:
        at = rng.randrange(len(value) + 1)
        return value[:at] + rng.choice(TEXTS) + value[at:]
    return rng.choice((*NUMBERS, *TEXTS, None, True, 1.5, [], {}, [0], [0, 8]))


def mutate_safetensors(data: bytes, most: int, rng: random.Random) -> bytes:
    length = int.from_bytes(data[:8], "little")
    header, body = data[8 : 8 + length], data[8 + length :]
    if rng.random() < 0.1:
        return bytes(atheris.Mutate(data, most))
    try:
        text = json.dumps(change_json(json.loads(header), rng)).encode()
    except (ValueError, RecursionError):
        text = bytes(atheris.Mutate(header, max(len(header), 64)))
    if rng.random() < 0.2:
        text = text.replace(b"}}", b'},"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', 1)
    if rng.random() < 0.2:
        body = body[: rng.randrange(len(body) + 1)] + bytes(rng.randrange(9))
    return len(text).to_bytes(8, "little") + text + body


def change_pickle(data: bytes, rng: random.Random) -> bytes:
    """Change, drop, repeat or move an opcode with its argument."""
    steps: list[bytes] = []
    with contextlib.suppress(ValueError, IndexError):
        places = [at for _, _, at in pickletools.genops(data)] + [len(data)]
        steps = [data[at:end] for at, end in itertools.pairwise(places)]
    if not steps:
        return bytes(atheris.Mutate(data, max(len(data), 64)))
    for _ in range(rng.choice((1, 1, 2, 4))):
        at, other = rng.randrange(len(steps)), rng.randrange(len(steps))
        match rng.randrange(7):
            case 0:
                steps = steps[:at] + steps[at + 1 :] or [b"."]
            case 1:
                steps.insert(at, steps[other])
            case 2:
                steps[at] = steps[other]
            case 3:
                first, last = sorted((at, other))
                steps[first:first] = steps[first : min(last, first + 20)]
            case 4:
                steps[at] = steps[at][:1] + bytes(atheris.Mutate(steps[at][1:], 16))
            case 5:
                steps[at] = pickle.dumps(rng.choice((*NUMBERS, *TEXTS[:5], None)), 2)[2:-1]
            case _:
                steps.insert(at, rng.choice(OPCODES))
    return b"".join(steps)


OPCODES = (
    *(b"(", b"t", b"\x85", b"\x86", b"\x87", b"R", b"b", b"s", b"u", b"a", b"e", b"}", b"]", b")"),
    *(b"Q", b"\x81", b"N", b"\x88", b"q\0", b"h\0", b"h\1", b"h\2", b"h\3", b".", b"\x80\2"),
    *(b"ctorch._utils\n_rebuild_tensor\n", b"ctorch._utils\n_rebuild_parameter\n"),
    *(b"ctorch._utils\n_rebuild_tensor_v3\n", b"ctorch._tensor\n_rebuild_from_type_v2\n"),
    *(b"ctorch\nSize\n", b"ctorch\nfloat16\n", b"ctorch\nHalfStorage\n", b"cos\nsystem\n"),
    *(b"ccollections\nOrderedDict\n", b"ctorch.storage\nUntypedStorage\n"),
)


def mutate_checkpoint(data: bytes, most: int, rng: random.Random) -> bytes:
    if rng.random() < 0.1:
        return bytes(atheris.Mutate(data, most))
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(name, archive.read(name)) for name in archive.namelist()]
    except Exception:  # the format before PyTorch 1.6, or no archive anymore
        return change_pickle(data, rng)
    if not members:
        return bytes(atheris.Mutate(data, most))
    at = 0 if rng.random() < 0.8 else rng.randrange(len(members))
    name, content = members[at]
    match rng.randrange(10):
        case 0:
            members.append((rng.choice(members)[0], content))
        case 1:
            members[at] = name + rng.choice(TEXTS[:5]), content
        case 2:
            members[at] = name, bytes(atheris.Mutate(content, max(len(content), 64)))
        case _:
            members[at] = name, change_pickle(content, rng) if not at else content[:-1]
    file = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if rng.random() < 0.02 else zipfile.ZIP_STORED
    with (
        contextlib.suppress(UserWarning, ValueError),
        zipfile.ZipFile(file, "w", method) as archive,
    ):
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content)
    return file.getvalue()


def mutate_index(data: bytes, most: int, rng: random.Random) -> bytes:
    try:
        if rng.random() < 0.1:
            raise ValueError
        text = json.dumps(change_json(json.loads(data), rng))
        return (text.replace('"v"', '"w"') if rng.random() < 0.2 else text).encode()
    except (ValueError, RecursionError):
        return bytes(atheris.Mutate(data, most))


def safetensors_seeds() -> list[bytes]:
    arrays = {"w": np.ones((2, 3), np.float32), "v": np.arange(4), "none": np.ones((0, 2), bool)}
    return [safetensors.numpy.save(arrays), safetensors.numpy.save(arrays, {"format": "pt"})]


def checkpoint_seeds() -> list[bytes]:
    base = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    states: list[Any] = [
        {"w": base, "t": base.t(), "half": base[1:], "e": base[:1].expand(3, 4)},
        {"epoch": 3, "model": {"p": torch.nn.Parameter(base), "i": torch.arange(3), "o": base[:0]}},
        torch.nn.Linear(2, 3).state_dict(),
        {"b": base.to(torch.bfloat16), "u": base.to(torch.uint16), "s": torch.eye(2).to_sparse()},
    ]
    seeds = []
    for state in states:
        for zipped in (True, False):
            file = io.BytesIO()
            torch.save(state, file, _use_new_zipfile_serialization=zipped)
            seeds.append(file.getvalue())
    return seeds


def index_seeds() -> list[bytes]:
    files = {"v": "a-1.safetensors", "w": "a-2.safetensors"}
    return [json.dumps({"metadata": {"total_size": 8}, "weight_map": files}).encode()]


Target = tuple[
    Callable[[bytes], None],
    Callable[[bytes, int, random.Random], bytes],
    Callable[[], list[bytes]],
]
TARGETS: dict[str, Target] = {
    "safetensors": (one_safetensors, mutate_safetensors, safetensors_seeds),
    "checkpoints": (one_checkpoint, mutate_checkpoint, checkpoint_seeds),
    "indexes": (one_index, mutate_index, index_seeds),
}


def main() -> None:
    """Seed the corpus, and start."""
    one_input, mutate, seeds = TARGETS[sys.argv.pop(1)]
    corpus = Path(sys.argv[1])
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds()):
        (corpus / f"seed{number}").write_bytes(seed)

    def mutator(data: bytes, most: int, seed: int) -> bytes:
        return mutate(data, most, random.Random(seed))[:most]

    atheris.Setup(sys.argv, one_input, custom_mutator=mutator)
    atheris.Fuzz()


if __name__ == "__main__":
    atheris.instrument_all()  # before the peers are there, which need no coverage
    import safetensors
    import safetensors.numpy
    import torch

    main()
