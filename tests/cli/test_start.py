"""Commands load what they use: starting takes as long as verifying 100 MB."""

import subprocess
import sys
from pathlib import Path

import nnguard
import samples

_HEAVY = (
    "nnguard._compression.compress",
    "nnguard._models.sources",
    "nnguard._operations.sign",
    "nnguard._selling",
    "sqlalchemy",
    "matplotlib",
    "tqdm",
    "nnguard._locking",
    "torch",
)


def test_verify_loads_no_other_command(tmp_path: Path) -> None:
    key = nnguard.SigningKey.load(tmp_path / "vendor.key")
    stream = nnguard.Stream.from_bytes(samples.small_stream())
    nnguard.sign(stream, key).save(tmp_path / "release.nnc", overwrite=True)
    script = (
        "import sys; from nnguard._cli import main; "
        "code = main(['verify', 'release.nnc', '--trust', 'vendor.pub']); "
        "print(*sys.modules, file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "Verified" in done.stdout
    loaded = [name for name in done.stderr.split() if name.startswith(_HEAVY)]
    assert loaded == []
