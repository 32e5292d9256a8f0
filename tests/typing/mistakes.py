"""Mistakes that a type checker has to find: each line says how mypy and pyright call its error.

Where one of them does not find it, it complains of a comment that is not needed.
"""

from __future__ import annotations

from pathlib import Path

import nnguard


def typos(report: nnguard.Report) -> None:
    nnguard.verfy(b"", "vendor.pub")  # type: ignore[attr-defined]  # pyright: ignore
    nnguard.LicenseError()  # type: ignore[attr-defined]  # pyright: ignore
    nnguard.licensing.Desk()  # type: ignore[attr-defined]  # pyright: ignore
    report.claims.naem  # type: ignore[attr-defined]  # noqa: B018  # pyright: ignore
    nnguard.sign(b"", "vendor.key", nmae="digits")  # type: ignore[call-overload]  # pyright: ignore
    nnguard.torch.save({}, "a.nnc", nmae="a")  # type: ignore[call-arg]  # pyright: ignore


def wrong_types(stream: nnguard.Stream, key: nnguard.SigningKey, at: Path) -> None:
    nnguard.verify(stream, trust=3)  # type: ignore[arg-type]  # pyright: ignore
    nnguard.sign(stream, key.public_key)  # type: ignore[call-overload]  # pyright: ignore
    nnguard.Settings(qp="fine")  # type: ignore[arg-type]  # pyright: ignore
    nnguard.torch.load_into({}, at, "vendor.pub")  # type: ignore[arg-type]  # pyright: ignore
    nnguard.torch.load(at, policy=3)  # type: ignore[arg-type]  # pyright: ignore


def unpacked(release: nnguard.Stream) -> None:
    _trial, _key = nnguard.lock(release)  # type: ignore[misc]  # pyright: ignore


def a_folder_is_no_file(path: str) -> nnguard.Stream:
    return nnguard.sign(path, "vendor.key")  # type: ignore[return-value]  # pyright: ignore


def unread_report(path: str) -> None:
    if nnguard.verify(path, "vendor.pub") is True:  # type: ignore[comparison-overlap]  # pyright: ignore
        pass
