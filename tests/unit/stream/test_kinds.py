"""What a file is that is not what was expected."""

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

import nnguard
import samples
from nnguard._stream.kinds import recognize
from nnguard._stream.source import MemorySource

ARRAYS = {"w": np.zeros((4, 4), np.float32)}
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
ONNX = b"\x08\x08\x12\x07pytorch\x1a\x052.1.0:\x00"


def archive() -> bytes:
    file = io.BytesIO()
    np.savez(file, **ARRAYS)
    return file.getvalue()


def what(data: bytes) -> str:
    kind = recognize(MemorySource(data))
    return "" if kind is None else kind.what


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "an empty file"),
        (save(ARRAYS), "a safetensors file"),
        (save(ARRAYS)[:20], ""),
        (samples.small_stream(), "an NNCodec stream"),
        (archive(), "a NumPy archive"),
        (b"GGUF\3\0\0\0", "a GGUF file"),
        (ONNX, "an ONNX model"),
        (POINTER, "a pointer of Git LFS"),
        (b"PK\3\4" + bytes(40), "a ZIP archive"),
        (b"<!DOCTYPE html>", "a web page"),
        (b'{"metadata": {}}', "JSON"),
        (nnguard.SigningKey.generate().pem(), "a private key"),
        (nnguard.SigningKey.generate().pem(passphrase="secret"), "a private key"),
        (nnguard.Identity.generate().recipient.pem, "a public key"),
        (bytes(100), ""),
        (b"\x08", ""),
        (b"PK\3", ""),
    ],
)
def test_first_bytes_tell(data: bytes, expected: str) -> None:
    assert what(data) == expected


def test_files_of_pytorch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    module = torch.nn.Linear(8, 8)
    torch.save(module.state_dict(), tmp_path / "new.pth")
    torch.save(module.state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    many = {f"{at}.weight": torch.zeros(1) for at in range(2000)}  # a long list of members
    torch.save(many, tmp_path / "many.pth")
    for name in ("new.pth", "old.pth", "many.pth"):
        assert what((tmp_path / name).read_bytes()) == "a PyTorch checkpoint", name
    for name, said in programs(tmp_path).items():
        assert what((tmp_path / name).read_bytes()) == said
        with pytest.raises(nnguard.errors.ModelError, match=said) as caught:
            nnguard.compress(tmp_path / name)
        assert "torch.save(" in caught.value.hint
        assert "state_dict" in caught.value.hint


def programs(folder: Path) -> dict[str, str]:
    """Write PyTorch's programs to a folder, and return what they are by the names of the files."""
    import torch

    module, example = torch.nn.Linear(8, 8), (torch.zeros(2, 8),)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both are old
        torch.jit.trace(module, example).save(folder / "script.pt")
        torch.export.save(torch.export.export(module, example), folder / "exported.pt2")
    return {"script.pt": "a TorchScript program", "exported.pt2": "a program of torch.export"}
