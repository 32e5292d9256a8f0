"""What is written, or decoded, is what was verified, whatever becomes of the file meanwhile."""

from collections.abc import Callable
from pathlib import Path

import pytest

import nnguard
import samples
from nnguard._stream.headers import UnitKind


def big_stream() -> nnguard.Stream:
    """A stream with small units, and one that is read in several parts."""
    data = samples.stream_of(*samples.split(samples.small_stream(weights=6000))[2:])
    return nnguard.Stream.from_bytes(data + samples.unit(9, bytes(5 << 20)) + samples.unit(9, b"x"))


@pytest.fixture(scope="module")
def sold(tmp_path_factory: pytest.TempPathFactory, key: nnguard.SigningKey) -> Path:
    """A release, a trial with its license, and a stream with an attachment."""
    folder = tmp_path_factory.mktemp("sold")
    model = big_stream()
    model.save(folder / "model.nnc")
    release = nnguard.sign(model, key, name="big")
    release.save(folder / "release.nnc")
    nnguard.attach(model, b"card").save(folder / "attached.nnc")
    locked = nnguard.lock_tiers(
        release, [nnguard.Tier("full", soft=nnguard.Soft(fraction=0.01))], signer=key
    )[-1]
    locked.trial.save(folder / "trial.nnc")
    identity = nnguard.Identity.generate()
    identity.save(folder / "ada.key")
    nnguard.licensing.issue(
        locked.trial, locked.content_key, to=identity.recipient, signer=key
    ).save(folder / "ada.license")
    return folder


Restore = Callable[[Path, Path, nnguard.PublicKey], nnguard.Stream]


def unlock(folder: Path, path: Path, trust: nnguard.PublicKey, watermark: bool) -> nnguard.Stream:
    return nnguard.unlock(
        path, folder / "ada.license", folder / "ada.key", trust, watermark=watermark
    )


RESTORED: dict[str, tuple[str, str, Restore]] = {
    "strip": ("release.nnc", "model.nnc", lambda _, path, trust: nnguard.strip(path, trust)),
    "detach": ("attached.nnc", "model.nnc", lambda _, path, __: nnguard.detach(path)[1]),
    "unlock": ("trial.nnc", "release.nnc", lambda *given: unlock(*given, watermark=False)),
    "unlock, marked": ("trial.nnc", "", lambda *given: unlock(*given, watermark=True)),
}


@pytest.mark.parametrize("verb", RESTORED)
@pytest.mark.parametrize("kind", [UnitKind.MPS, UnitKind.NDU, 9])
def test_byte_that_changes_after_the_check(
    sold: Path, tmp_path: Path, key: nnguard.SigningKey, verb: str, kind: int
) -> None:
    source, expected, restore = RESTORED[verb]
    path, output = tmp_path / "in.nnc", tmp_path / "out.nnc"
    path.write_bytes((sold / source).read_bytes())
    restored = restore(sold, path, key.public_key)
    if expected:
        restored.save(output)
        assert output.read_bytes() == (sold / expected).read_bytes()
        output.unlink()
    unit = next(unit for unit in nnguard.Stream.open(path) if unit.kind == kind)
    with path.open("r+b") as file:
        file.seek(unit.offset + unit.size - 1)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(
        nnguard.errors.VerificationError, match="changed after it was verified"
    ) as caught:
        restored.save(output)
    assert caught.value.tensors == (unit.name,)
    with pytest.raises(nnguard.errors.VerificationError, match="changed after it was verified"):
        bytes(restored)
    assert not output.exists()
    for decode in (
        nnguard.decompress,
        lambda stream: list(nnguard.iter_tensors(stream)),
        lambda stream: nnguard.decompress_to_file(stream, output),
    ):
        with pytest.raises(nnguard.errors.VerificationError, match="changed after it was verified"):
            decode(restored)
    assert not output.exists()


def test_set_that_changes_after_the_check(tmp_path: Path, key: nnguard.SigningKey) -> None:
    (tmp_path / "streams").mkdir()
    stream = nnguard.Stream.from_bytes(samples.small_stream())
    stream.save(tmp_path / "streams" / "a.nnc")
    names = [unit.name for unit in stream if unit.tensor is not None]
    weight_map = ", ".join(f'"{name}": "a.nnc"' for name in names)
    index = tmp_path / "streams" / "model.nnc.index.json"
    index.write_text(f'{{"weight_map": {{{weight_map}}}}}')
    nnguard.sign(tmp_path / "streams", key).save(tmp_path / "release")
    original = nnguard.strip(tmp_path / "release", key.public_key)
    path = tmp_path / "release" / "a.nnc"
    data = bytearray(path.read_bytes())
    data[stream[0].size] ^= 1
    path.write_bytes(data)
    with pytest.raises(nnguard.errors.VerificationError):
        original.save(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_name_that_is_another_while_a_set_is_opened(
    tmp_path: Path, key: nnguard.SigningKey
) -> None:
    """The index that is written would not be that of what was verified."""
    model = nnguard.Stream.from_bytes(samples.small_stream())
    nnguard.sign(nnguard.StreamSet.of({"a.nnc": model}), key).save(tmp_path / "release")
    files = [*(tmp_path / "release").iterdir()]
    before = {path: path.read_bytes() for path in files}
    name = next(unit.name for unit in model if unit.tensor is not None).encode()
    for path, data in before.items():
        path.write_bytes(data.replace(name, name[::-1]))
    opened = nnguard.StreamSet.open(tmp_path / "release")
    for path, data in before.items():
        path.write_bytes(data)
    original = nnguard.strip(opened, key.public_key)
    with pytest.raises(nnguard.errors.VerificationError, match="the index does not say"):
        original.save(tmp_path / "out")
    assert [*tmp_path.iterdir()] == [tmp_path / "release"]
