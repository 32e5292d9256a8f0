"""PEM is split in one pass, and a customer's file has as many keys as a customer has."""

from __future__ import annotations

import subprocess
import sys

import pytest

import nnguard


@pytest.mark.parametrize("block", [b"-----BEGIN A", b"-----BEGIN A-----", b"-----BEGIN A----- "])
def test_pem_is_read_in_one_pass(block: bytes) -> None:
    """Of 4 MB; where each beginning looks for an end, this takes hours."""
    script = "import sys, nnguard; nnguard.Recipient.from_pem(sys.stdin.buffer.read())"
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=block * ((4 << 20) // len(block)),
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert b"KeyFormatError" in done.stderr.splitlines()[-1]


def test_many_blocks_are_no_customers_key(key: nnguard.SigningKey) -> None:
    for read, pem in (
        (nnguard.Recipient.from_pem, nnguard.Identity.generate().recipient.pem),
        (nnguard.SigningKey.from_pem, key.pem()),
    ):
        with pytest.raises(
            nnguard.errors.KeyFormatError, match="3 blocks of PEM, where a key has 2 at most"
        ):
            read(pem * 3)
