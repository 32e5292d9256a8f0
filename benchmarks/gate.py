"""Cost of the gate, beside that of checking an OMS signature of the same folder.

    python benchmarks/gate.py FOLDER --work FOLDER --model-signing COMMAND

`FOLDER` is one that `billion.py make --part 0.32` wrote, some 700 MB of bfloat16 in three shards.
It is compressed (URQ, fast) and signed; then each command runs in turn, `--runs` times, as a whole
process: the gate, `nnguard verify` of the release, `model_signing verify key` of the folder that
the gate wrote and signed, `openssl dgst -sha256` of that. Prints Markdown: medians of the seconds
and of those of all processors together, highest memory. Linux only.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

import nnguard
from peak_memory import Peak, measure

NNGUARD = (sys.executable, "-m", "nnguard")


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="model to let pass")
    parser.add_argument("--work", type=Path, required=True, help="new folder, for what is written")
    parser.add_argument("--model-signing", required=True, help="the command, of version 1.1.1")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    work: Path = options.work
    work.mkdir()
    release(options.folder, work)
    served = work / "served"
    trust = ("--trust", work / "vendor.pub")
    oms = (options.model_signing, "verify", "key", served, "--signature", served / "model.sig")
    commands = {
        "nnguard gate": (*NNGUARD, "gate", work / "release", served, *trust, "--force"),
        "nnguard gate --oms-key": (
            *NNGUARD, "gate", work / "release", served, *trust, "--force", "--oms-key",
            work / "oms.key",
        ),
        "nnguard verify": (*NNGUARD, "verify", work / "release", *trust),
        "model_signing verify": (*oms, "--public_key", work / "oms.pub"),
        "openssl dgst -sha256": ("sh", "-c", f"openssl dgst -sha256 {served}/*"),
    }  # fmt: skip
    peaks: dict[str, list[Peak]] = {name: [] for name in commands}
    worked: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(options.runs):
        for name, command in commands.items():
            before = processor_seconds()
            peaks[name].append(measure(command))
            worked[name].append(processor_seconds() - before)
    print(f"Release: {size(work / 'release') / 1e6:.0f} MB; folder: {size(served) / 1e6:.0f} MB\n")
    print("| command | seconds | of a processor | resident MB | in no file MB |")
    print("|---|--:|--:|--:|--:|")
    for name, found in peaks.items():
        seconds = statistics.median(peak.seconds for peak in found)
        resident, anonymous = (
            max(getattr(peak, what) for peak in found) / 1e6 for what in ("resident", "anonymous")
        )
        work = statistics.median(worked[name])
        print(f"| {name} | {seconds:.2f} | {work:.2f} | {resident:.0f} | {anonymous:.0f} |")


def release(folder: Path, work: Path) -> None:
    """Sign the model, and make the key that signs what has passed."""
    hub = shutil.copytree(folder, work / "hub", copy_function=lambda a, b: Path(b).symlink_to(a))
    Path(hub, "config.json").write_text('{"model_type": "llama"}')
    settings = nnguard.Settings(dependent=False, parameter_optimization=False)
    key = nnguard.SigningKey.generate()
    key.public_key.save(work / "vendor.pub")
    streams = nnguard.compress(hub, settings, spool=work)
    nnguard.sign(streams, key, name="random").save(work / "release")
    bundles = ec.generate_private_key(ec.SECP256R1())
    pem, none = serialization.Encoding.PEM, serialization.NoEncryption()
    private = bundles.private_bytes(pem, serialization.PrivateFormat.PKCS8, none)
    (work / "oms.key").write_bytes(private)
    public = serialization.PublicFormat.SubjectPublicKeyInfo
    (work / "oms.pub").write_bytes(bundles.public_key().public_bytes(pem, public))


def processor_seconds() -> float:
    """Return what commands that have ended took, on all processors together."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def size(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    return int(subprocess.check_output(["du", "--bytes", "--summarize", folder]).split()[0])


if __name__ == "__main__":
    main()
