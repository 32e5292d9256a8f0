"""PyTorch: what is loaded was verified, and it is what the stock decoder gives."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nnguard
import samples
import stock
from nnguard._operations import verify

torch = pytest.importorskip("torch")

SETTINGS = nnguard.Settings(qp=-32)


def network() -> Any:
    """Return a small network whose BatchNorms have counted batches."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3),
        torch.nn.BatchNorm2d(16),
        torch.nn.ReLU(),
        torch.nn.Conv2d(16, 32, 3),
        torch.nn.BatchNorm2d(32),
        torch.nn.Flatten(),
        torch.nn.Linear(32 * 4 * 4, 10),
    )
    with torch.no_grad():
        for _ in range(3):
            module(torch.randn(8, 3, 8, 8))
    return module.eval()


@pytest.fixture(scope="module")
def module() -> Any:
    return network()


@pytest.fixture
def path(tmp_path: Path, module: Any, key: nnguard.SigningKey) -> Path:
    """A signed release of the network."""
    path = tmp_path / "release.nnc"
    nnguard.torch.save(module, path, signer=key, settings=SETTINGS, name="net", version="1.0")
    return path


def equal_to_stock(state: dict[str, Any], data: bytes) -> None:
    """Check that weights are those of the stock decoder, in the formats that went in."""
    expected = stock.decode(data)
    assert list(state) == list(expected)
    for name, tensor in state.items():
        assert np.array_equal(tensor.numpy().reshape(expected[name].shape), expected[name])


def test_release_is_loaded_as_the_stock_decoder_decodes_it(
    path: Path, module: Any, key: nnguard.SigningKey
) -> None:
    state = nnguard.torch.load(path, trust=[key.public_key])
    equal_to_stock(state, path.read_bytes())
    for name, tensor in module.state_dict().items():
        assert state[name].dtype == tensor.dtype
        assert state[name].shape == tensor.shape
        assert state[name].device.type == "cpu"
    assert state["1.num_batches_tracked"] == 3
    assert nnguard.verify(path, key.public_key).claims.name == "net"


def test_original_is_loaded_without_the_signature(
    path: Path, module: Any, key: nnguard.SigningKey
) -> None:
    original = nnguard.torch.load(path, key.public_key, original=True)
    equal_to_stock(original, bytes(nnguard.compress(module, SETTINGS)))
    signed = nnguard.torch.load(path, key.public_key)
    assert [name for name in signed if not torch.equal(signed[name], original[name])]


def test_module_computes_with_what_was_loaded(path: Path, key: nnguard.SigningKey) -> None:
    fresh = network()
    with torch.no_grad():
        for parameter in fresh.parameters():
            parameter.zero_()
    fresh[1].num_batches_tracked.zero_()
    nnguard.torch.load_into(fresh, path, [key.public_key])
    equal_to_stock(fresh.state_dict(), path.read_bytes())
    peer = network()
    peer.load_state_dict(
        {
            name: torch.from_numpy(array.copy()).reshape(peer.state_dict()[name].shape)
            for name, array in stock.decode(path.read_bytes()).items()
        }
    )
    images = torch.randn(4, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(fresh(images), peer(images))


def test_module_is_as_it_was_where_the_file_is_refused(
    path: Path, other_key: nnguard.SigningKey
) -> None:
    module = network()
    with torch.no_grad():
        module[0].weight.fill_(0.5)
    with pytest.raises(nnguard.errors.WrongKeyError):
        nnguard.torch.load_into(module, path, other_key.public_key)
    assert torch.equal(module[0].weight, torch.full_like(module[0].weight, 0.5))


def test_names_have_to_fit_the_module(path: Path, key: nnguard.SigningKey) -> None:
    other = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3))
    with pytest.raises(RuntimeError, match="Unexpected key"):
        nnguard.torch.load_into(other, path, key.public_key)
    nnguard.torch.load_into(other, path, key.public_key, strict=False)
    state = nnguard.torch.load(path, key.public_key)
    assert torch.equal(other[0].weight, state["0.weight"])


def test_module_is_as_it_was_where_shapes_do_not_fit(path: Path, key: nnguard.SigningKey) -> None:
    """PyTorch loads what fits, and then raises."""
    for other in (network(), torch.nn.Sequential(*network(), torch.nn.Linear(2, 2))):
        other[1] = torch.nn.BatchNorm2d(other[1].num_features + 1)
        before = {name: value.clone() for name, value in other.state_dict().items()}
        with pytest.raises(RuntimeError, match="size mismatch"):
            nnguard.torch.load_into(other, path, key.public_key)
        with pytest.raises(RuntimeError, match="size mismatch"):
            nnguard.torch.load_into(other, path, key.public_key, strict=False)
        for name, value in other.state_dict().items():
            assert torch.equal(value, before[name]), name
        assert all(parameter.requires_grad for parameter in other.parameters())


def test_modules_that_wait_for_their_shapes(tmp_path: Path, key: nnguard.SigningKey) -> None:
    linear = torch.nn.Linear(64, 64)
    nnguard.torch.save(linear, tmp_path / "model.nnc", signer=key)
    lazy, meta = torch.nn.LazyLinear(64), torch.nn.Linear(64, 64, device="meta")
    nnguard.torch.load_into(lazy, tmp_path / "model.nnc", key.public_key)
    assert (lazy.weight - linear.weight).abs().max() < 0.01
    with pytest.warns(UserWarning, match="meta"):
        nnguard.torch.load_into(meta, tmp_path / "model.nnc", key.public_key)


def refused_as_it_has_no_values(tensor: Any) -> None:
    with pytest.raises(nnguard.errors.ModelError, match="has no values"):
        nnguard.compress({"odd": tensor})


@pytest.mark.filterwarnings("ignore:.*(prototype|deprecated|development)")
def test_tensors_of_other_kinds() -> None:
    parts = [torch.ones(2), torch.ones(3)]
    freed = torch.ones(1000)
    freed.untyped_storage().resize_(0)  # what is read of it is whatever memory holds now
    for what, tensor in (
        ("is nested", torch.nested.nested_tensor(parts)),
        ("is nested", torch.nested.nested_tensor(parts, layout=torch.jagged)),
        ("is sparse_coo", torch.eye(3).to_sparse()),
        ("is qint8", torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)),
        ("has no values", torch.ones(3, device="meta")),
        ("has no values", torch.nn.LazyLinear(3).weight),
        ("has no values", freed),
        ("no stream", torch.zeros(1).expand(1 << 45)),
    ):
        with pytest.raises(nnguard.errors.ModelError, match=what):
            nnguard.compress({"odd": tensor})
    torch.func.vmap(lambda row: refused_as_it_has_no_values(row) or row)(torch.ones(2, 3))
    own = torch.ones(3).as_subclass(type("Own", (torch.Tensor,), {}))
    assert bytes(nnguard.compress({"w": own})) == bytes(nnguard.compress({"w": torch.ones(3)}))
    negative = torch.ones(3, dtype=torch.complex64).conj().imag
    assert negative.is_neg()
    assert bytes(nnguard.compress({"w": negative})) == bytes(
        nnguard.compress({"w": -torch.zeros(3)})
    )


def test_options_of_load_are_options_of_load_into(path: Path, key: nnguard.SigningKey) -> None:
    module = network()
    nnguard.torch.load_into(module, path, key.public_key, original=True, workers=1)
    original = nnguard.torch.load(path, key.public_key, original=True)
    assert all(torch.equal(original[name], value) for name, value in module.state_dict().items())
    with pytest.raises(nnguard.errors.LimitError):
        nnguard.torch.load_into(module, path, key.public_key, max_size=100)


def test_file_by_someone_else(path: Path, other_key: nnguard.SigningKey) -> None:
    with pytest.raises(nnguard.errors.WrongKeyError):
        nnguard.torch.load(path, [other_key.public_key])


def test_file_that_is_not_signed(tmp_path: Path, module: Any, key: nnguard.SigningKey) -> None:
    nnguard.torch.save(module, tmp_path / "plain.nnc", settings=SETTINGS)
    assert (tmp_path / "plain.nnc").read_bytes() == bytes(nnguard.compress(module, SETTINGS))
    with pytest.raises(nnguard.errors.NoRecordError):
        nnguard.torch.load(tmp_path / "plain.nnc", key.public_key)
    equal_to_stock(
        nnguard.torch.decompress(tmp_path / "plain.nnc"), (tmp_path / "plain.nnc").read_bytes()
    )


@pytest.mark.parametrize("name", [b"0.bias", b"1.running_var", b"1.num_batches_tracked"])
def test_file_that_was_changed(path: Path, name: bytes, key: nnguard.SigningKey) -> None:
    units = [bytearray(unit) for unit in samples.split(path.read_bytes())]
    next(unit for unit in units if name in unit)[-1] ^= 1
    path.write_bytes(b"".join(units))
    with pytest.raises(nnguard.errors.VerificationError):
        nnguard.torch.load(path, key.public_key)


def test_file_that_is_damaged(path: Path, key: nnguard.SigningKey) -> None:
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(nnguard.errors.FormatError):
        nnguard.torch.load(path, key.public_key)


def test_trust_may_be_a_path(path: Path, key: nnguard.SigningKey, tmp_path: Path) -> None:
    key.public_key.save(tmp_path / "vendor.pub")
    assert nnguard.torch.load(str(path), tmp_path / "vendor.pub")
    assert nnguard.torch.load(path, [str(tmp_path / "vendor.pub")])
    with pytest.raises(nnguard.errors.KeyFormatError):
        nnguard.torch.load(path, [])


@pytest.mark.parametrize("replaced", [True, False])
def test_what_was_verified_is_what_is_decoded(
    path: Path, replaced: bool, key: nnguard.SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file changes the moment after its signature was checked."""
    expected = nnguard.torch.load(path, key.public_key)
    evil = bytes(nnguard.compress({name: value * 2 for name, value in expected.items()}, SETTINGS))
    check = verify._check_digest

    def check_and_swap(*arguments: Any) -> None:
        check(*arguments)
        if replaced:
            (path.parent / "evil").write_bytes(evil)
            (path.parent / "evil").replace(path)
        else:
            path.write_bytes(evil)

    monkeypatch.setattr(verify, "_check_digest", check_and_swap)
    for original in (False, True):
        before = path.read_bytes()
        state = nnguard.torch.load(path, key.public_key, original=original)
        assert path.read_bytes() == evil != before
        limit = 0.0 if not original else 0.5
        for name, tensor in state.items():
            assert (tensor - expected[name]).abs().max() <= limit, name
        path.write_bytes(before)


@pytest.mark.parametrize(
    ("dtype", "exact"),
    [
        ("bfloat16", False),
        ("float16", False),
        ("float64", False),
        ("bool", True),
        ("uint8", True),
        ("int64", True),
    ],
)
def test_formats_come_back(
    tmp_path: Path, dtype: str, exact: bool, key: nnguard.SigningKey
) -> None:
    values = torch.randn(20, 10, generator=torch.Generator().manual_seed(1)) * 3
    values = values.abs().to(getattr(torch, dtype))
    carrier = torch.from_numpy(samples.small_network(6000)["conv.weight"])
    state = {"w": carrier, "odd": values, "one": values[0, 0], "none": values[:0]}
    path = tmp_path / "model.nnc"
    nnguard.torch.save(state, path, signer=key, settings=nnguard.Settings(qp=-20))
    found = nnguard.torch.load(path, key.public_key)
    for name, tensor in state.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape)
    if exact:
        assert torch.equal(found["odd"], values)
        assert found["one"] == values[0, 0]
    else:
        assert (found["odd"].double() - values.double()).abs().max() < 0.05
        assert found["odd"].unique().numel() > 20


def test_layouts_of_memory_do_not_matter() -> None:
    base = torch.randn(12, 8, generator=torch.Generator().manual_seed(2))
    views = {
        "transposed": base.t(),
        "strided": base[::3, 1::2],
        "expanded": base[:1].expand(5, 8),
        "shared": base,
        "channels_last": base.reshape(2, 3, 4, 4).to(memory_format=torch.channels_last),
    }
    copies = {name: view.clone().contiguous() for name, view in views.items()}
    assert bytes(nnguard.compress(views)) == bytes(nnguard.compress(copies))
    found = nnguard.torch.decompress(nnguard.compress(views))
    for name, view in views.items():
        assert found[name].shape == view.shape
        assert (found[name] - view).abs().max() < 0.01


def test_module_and_its_state_dict_and_arrays_are_the_same_model(module: Any) -> None:
    state = module.state_dict()
    arrays = {name: tensor.numpy() for name, tensor in state.items()}
    mixed = {
        name: state[name] if at % 2 else array for at, (name, array) in enumerate(arrays.items())
    }
    streams = [bytes(nnguard.compress(model)) for model in (module, state, arrays, mixed)]
    assert len(set(streams)) == 1


def test_loaded_tensors_can_be_trained(path: Path, key: nnguard.SigningKey) -> None:
    for tensor in nnguard.torch.load(path, key.public_key).values():
        tensor.add_(1)
    for tensor in nnguard.torch.decompress(nnguard.compress({"w": torch.zeros(0)})).values():
        assert tensor.shape == (0,)
    state = nnguard.torch.load(path, key.public_key)
    state["1.running_mean"].fill_(7)
    assert not (state["1.running_var"] == 7).any(), "tensors do not share places"


def test_saving_overwrites_only_when_told(path: Path, module: Any, key: nnguard.SigningKey) -> None:
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        nnguard.torch.save(module, path, settings=SETTINGS)
    assert path.read_bytes() == before
    nnguard.torch.save(module, path, settings=SETTINGS, overwrite=True)
    assert path.read_bytes() != before
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_claims_need_a_signer(tmp_path: Path, module: Any, key: nnguard.SigningKey) -> None:
    with pytest.raises(
        nnguard.errors.ArgumentError, match="claims without a signer: name, version"
    ):
        nnguard.torch.save(module, tmp_path / "model.nnc", name="net", version="1.0")
    with pytest.raises(TypeError, match="nonsense"):
        nnguard.torch.save(module, tmp_path / "model.nnc", signer=key, nonsense=1)
    assert not list(tmp_path.iterdir())


def test_all_claims_of_sign_can_be_given(
    tmp_path: Path, module: Any, key: nnguard.SigningKey
) -> None:
    nnguard.torch.save(
        module,
        tmp_path / "model.nnc",
        signer=key,
        settings=SETTINGS,
        issuer="acme.ai",
        metadata={"a": "b"},
        localize=True,
    )
    claims = nnguard.verify(tmp_path / "model.nnc", key.public_key).claims
    assert (claims.issuer, dict(claims.metadata)) == ("acme.ai", {"a": "b"})


def test_nothing_is_written_where_saving_fails(tmp_path: Path, key: nnguard.SigningKey) -> None:
    bad = {"w": torch.full((4, 4), float("nan"))}
    with pytest.raises(nnguard.errors.ModelError, match="tensor w has NaN"):
        nnguard.torch.save(bad, tmp_path / "model.nnc", signer=key)
    with pytest.raises(nnguard.errors.CapacityError):
        nnguard.torch.save({"w": torch.ones(4, 4)}, tmp_path / "model.nnc", signer=key)
    with pytest.raises(TypeError, match="tensor w is a list"):
        nnguard.torch.save({"w": [1.0]}, tmp_path / "model.nnc")
    assert not list(tmp_path.iterdir())


def test_torch_is_loaded_when_it_is_asked_for() -> None:
    code = (
        "import sys, nnguard\n"
        "nnguard.compress, nnguard.StreamSet, nnguard.verify\n"
        "assert 'torch' not in sys.modules\n"
        "nnguard.torch.load\n"
        "assert 'torch' in sys.modules\n"
        "assert not {'nncodec.nn', 'nncodec.nnc', 'nncodec.framework', 'pandas', 'torchvision'}"
        " & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_state_remembers_what_was_loaded(
    tmp_path: Path, model: nnguard.Stream, key: nnguard.SigningKey
) -> None:
    """Not what was refused, nor what could not be decoded."""
    releases = [nnguard.sign(model, key, name="net", release=number) for number in (1, 2, 3)]
    options = {"state": tmp_path / "state"}
    report = nnguard.torch.load(releases[1], key.public_key, **options).report
    assert report is not None
    assert report.warnings
    with pytest.raises(nnguard.errors.PolicyError):
        nnguard.torch.load(releases[0], key.public_key, **options)
    expected = nnguard.Expect(name="other")
    with pytest.raises(nnguard.errors.ClaimsError):
        nnguard.torch.load(releases[2], key.public_key, expect=expected, **options)
    with pytest.raises(nnguard.errors.LimitError):
        nnguard.torch.load(releases[2], key.public_key, max_size=1, **options)
    assert nnguard.torch.load(releases[1], key.public_key, **options).report
