"""Odd arguments and odd places end in an exit code, never in a traceback."""

from pathlib import Path

import pytest

import nnguard
import samples
import stock
from nnguard.cli import main

EXPECTED = {1, 2, 6}
"""The system refused, wrong usage, or a key that cannot be."""


def test_name_that_is_no_unicode() -> None:
    sign = ["sign", "model.nnc", "-o", "out.nnc", "--key", "vendor.key"]
    assert main([*sign, "--name", "\udcff"]) in EXPECTED
    assert not Path("out.nnc").exists()


def test_passphrase_file_that_is_no_text(folder: Path) -> None:
    (folder / "secret").write_bytes(b"\xff\xfe\n")
    assert main(["keygen", "new", "--passphrase-file", "secret"]) in EXPECTED
    assert not (folder / "new.key").exists()


def test_passphrase_that_is_too_long(folder: Path) -> None:
    (folder / "secret").write_text("x" * 5000)
    assert main(["keygen", "new", "--passphrase-file", "secret"]) in EXPECTED
    assert not (folder / "new.key").exists()


def test_plot_of_an_unknown_kind(folder: Path) -> None:
    pytest.importorskip("matplotlib")
    assert main(["inspect", "release.nnc", "--plot", "carrier.xyz"]) in EXPECTED
    assert not (folder / "carrier.xyz").exists()


@pytest.mark.parametrize(
    "name",
    [
        r"$\frac$",
        "$x^$",
        "\x01",
        "a\nb",
        "\U0001f600",
    ],
)
def test_plot_of_a_tensor_with_a_hostile_name(folder: Path, name: str) -> None:
    pytest.importorskip("matplotlib")
    arrays = {name: samples.small_network()["conv.weight"]}
    stream = nnguard.Stream.from_bytes(stock.encode(arrays, qp=-20))
    nnguard.attach(stream, b"card").save("hostile.nnc")
    assert main(["inspect", "hostile.nnc", "--plot", "carrier.png"]) == 0
    assert (folder / "carrier.png").exists()


def test_terminal_that_is_not_unicode(key: nnguard.SigningKey, model: nnguard.Stream) -> None:
    nnguard.sign(model, key, name="модель").save("named.nnc")
    done = samples.run_process(
        "verify", "named.nnc", "--trust", "vendor.pub", PYTHONIOENCODING="ascii"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"Verified")


def test_folder_instead_of_a_file(folder: Path) -> None:
    (folder / "folder").mkdir()
    for command in ("inspect folder", "verify folder --trust vendor.pub", "capacity folder"):
        assert main(command.split()) in (1, 3)
    assert main(["sign", "model.nnc", "-o", "folder", "--key", "vendor.key", "-f"]) == 1
    assert main(["verify", "release.nnc", "--trust", "folder"]) == 6


def test_empty_trust_is_not_this_folder() -> None:
    assert main(["verify", "release.nnc", "--trust", ""]) != 0
