"""Models become the stock encoder's streams; hostile streams become errors."""

import json
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import nnguard
import samples
import stock
from nnguard._models.formats import FORMATS
from nnguard._stream.quantized import decode

SOURCE = dict(np.load(samples.FOLDER / "source.npz"))
"""The arrays that most streams in tests/streams were made from."""

STOCK: dict[str, dict[str, Any]] = {
    "default": {},
    "urq": {"dependent": False},
    "urq_nopopt": {"dependent": False, "parameter_optimization": False},
    "norowskip": {"row_skipping": False},
    "qp20": {"qp": -20},
    "qp50_urq": {"qp": -50, "dependent": False},
    "unary4": {"unary_length": 5, "row_skipping": False},
    "density3": {"qp": -64, "qp_density": 3, "row_skipping": False},
    "scan1_urq": {"scan_order": 1, "dependent": False, "row_skipping": False},
    "scan2": {"scan_order": 2, "row_skipping": False},
    "bitdepth8": {"bit_depth": 8},
}
"""How; `nncodec.nn.encode` has a `qp` of -32, `nncodec.nnc.compress` no row skipping."""


def open_bytes(data: bytes) -> nnguard.Stream:
    return nnguard.Stream.from_bytes(data)


@pytest.mark.parametrize("name", STOCK)
def test_streams_are_those_of_the_stock_encoder(name: str) -> None:
    settings = nnguard.Settings(**({"qp": -32} | STOCK[name]))
    assert bytes(nnguard.compress(SOURCE, settings)) == samples.read(name)


def test_parameters_of_single_tensors_are_those_of_the_stock_encoder() -> None:
    """Its `opt_qp` raises the parameters of large tensors."""
    chosen = {
        unit.name: decode(unit).qp
        for unit in nnguard.Stream.open(samples.path_of("optqp"))
        if unit.tensor is not None and unit.tensor.payload_type == samples.FLOAT
    }
    assert len(set(chosen.values())) > 3
    settings = nnguard.Settings(qp=-32, qp_per_tensor=chosen)
    assert bytes(nnguard.compress(SOURCE, settings)) == samples.read("optqp")
    assert stock.encode(SOURCE, qp=-32, optimized_qp=True) == samples.read("optqp")


@pytest.mark.parametrize("name", [*STOCK, "optqp", "resnet20.default", "resnet20.urq38"])
def test_streams_of_the_stock_encoder_are_decompressed(name: str) -> None:
    expected = stock.decode(samples.read(name))
    found = nnguard.decompress(samples.path_of(name))
    assert list(found) == list(expected)
    for key, array in found.items():
        assert (array.dtype, array.shape) == (expected[key].dtype, expected[key].shape)
        assert np.array_equal(array, expected[key])
    for (key, array), other in zip(nnguard.iter_tensors(samples.path_of(name)), found, strict=True):
        assert key == other
        assert np.array_equal(array, found[other])


@pytest.mark.parametrize("name", ["default", "scan2"])
def test_weights_that_were_decompressed_give_the_same_indices(name: str) -> None:
    """Compressed again with the same parameters, uniformly, nothing moves anymore."""
    first = nnguard.decompress(samples.path_of(name))
    settings = nnguard.Settings(qp=-60, dependent=False)
    once = nnguard.compress(first, settings)
    again = nnguard.compress(nnguard.decompress(once), settings)
    assert bytes(again) == bytes(once)


@pytest.mark.parametrize("scan_order", [1, 2, 4])
@pytest.mark.parametrize("width", [148, 149, 150, 151])
def test_rows_of_zeros_in_blocks_are_read_by_the_stock_decoder(width: int, scan_order: int) -> None:
    """With TCQ it does not read its own, unless their width is a multiple of four."""
    weights = np.random.default_rng(3).laplace(0, 0.05, (90, width)).astype(np.float32)
    weights[7:12] = weights[64:] = 0
    stream = nnguard.compress({"w": weights}, nnguard.Settings(qp=-24, scan_order=scan_order))
    found = nnguard.decompress(stream)["w"]
    assert np.array_equal(found, stock.decode(bytes(stream))["w"])
    assert np.abs(found - weights).max() < 2**-5
    expected = [
        stock.encode({"w": weights}, qp=-24, scan_order=scan_order, row_skipping=skipping)
        for skipping in (True, False)
    ]
    assert bytes(stream) == expected[width % 4 > 0], "skipped rows do no harm to fours"
    theirs = stock.decode(expected[0])["w"]
    assert np.array_equal(nnguard.decompress(open_bytes(expected[0]))["w"], theirs)
    if width == 149:
        assert np.abs(theirs - weights).max() > 2**-5


def normalized_network(counter: stock.Array) -> dict[str, stock.Array]:
    rng = np.random.default_rng(5)
    return {
        "conv.weight": rng.normal(0, 0.1, (8, 3, 3, 3)).astype(np.float32),
        "bn.weight": np.ones(8, np.float32),
        "bn.bias": np.zeros(8, np.float32),
        "bn.running_mean": rng.normal(0, 1, 8).astype(np.float32),
        "bn.running_var": rng.uniform(0.1, 9, 8).astype(np.float32),
        "bn.num_batches_tracked": counter,
    }


@pytest.mark.parametrize("batches", [0, 1, 39_100, 1 << 30])
def test_counters_of_batch_normalisation(batches: int) -> None:
    as_stock = normalized_network(np.array([batches], np.int32))
    assert bytes(nnguard.compress(as_stock)) == stock.encode(as_stock)
    stream = nnguard.compress(normalized_network(np.array(batches, np.int64)))
    read = stock.decode(bytes(stream))["bn.num_batches_tracked"]
    assert (read.dtype, read.tolist()) == (np.int32, [batches])
    found = nnguard.decompress(stream)["bn.num_batches_tracked"]
    assert (found.dtype, found.shape, int(found)) == (np.int64, (), batches)
    other = stock.decode(stock.encode(as_stock))
    for name, array in stock.decode(bytes(stream)).items():
        assert np.array_equal(array, other[name])


def test_counter_beyond_32_bits() -> None:
    stream = nnguard.compress({"n": np.array(1 << 40), "m": np.array([-(1 << 63)])})
    found = nnguard.decompress(stream)
    assert (found["n"].shape, int(found["n"])) == ((), 1 << 40)
    assert found["m"].tolist() == [-(1 << 63)]
    assert {array.shape for array in stock.decode(bytes(stream)).values()} == {(1, 2)}


@pytest.mark.parametrize("dependent", [True, False])
def test_a_spool_gives_the_same_stream(dependent: bool, tmp_path: Path) -> None:
    settings = nnguard.Settings(dependent=dependent)
    stream = nnguard.compress(SOURCE, settings, spool=tmp_path)
    assert bytes(stream) == bytes(nnguard.compress(SOURCE, settings))
    assert not list(tmp_path.iterdir()), "the spool has no name"


@pytest.mark.parametrize("model", [{}, [], 5, None, b"model.safetensors"])
def test_what_is_no_model_is_refused(model: Any) -> None:
    with pytest.raises((nnguard.errors.ModelError, TypeError)):
        nnguard.compress(model)


@pytest.mark.parametrize("value", [[1, 2], 5, None, "text"])
def test_tensors_are_arrays(value: Any) -> None:
    with pytest.raises(TypeError, match=r"tensor w is a .*, not an array"):
        nnguard.compress({"w": value})


@pytest.mark.parametrize("name", ["a\0b", "x" * 40_000, "\ud800"])
def test_names_that_a_stream_cannot_hold_are_refused(name: str) -> None:
    with pytest.raises(nnguard.errors.ModelError, match="name of tensor"):
        nnguard.compress({name: np.ones(3, np.float32)})


@pytest.mark.parametrize("name", ["", "größe", "x" * 30_000, "a/b\\c\n", "\U0001f600"])
def test_names_survive(name: str) -> None:
    array = np.arange(5, dtype=np.int32)
    stream = nnguard.compress({name: array})
    assert list(nnguard.decompress(stream)) == [name]
    assert list(stock.decode(bytes(stream))) == [name]


# Hostile streams


def topology(text: str) -> bytes:
    return samples.unit(samples.TPL, bytes(2) + text.encode() + b"\0")


def about(said: object) -> bytes:
    return topology(json.dumps({"nnguard": said}, separators=(",", ":")))


def stock_units(arrays: dict[str, stock.Array]) -> list[bytes]:
    return samples.split(stock.encode(arrays))[3:]  # start, model parameters, topology


ROW = {
    "row": np.ones((1, 5), np.float32),
    "one": np.array([7], np.int32),
    "counts": np.arange(-2, 3, dtype=np.int32),
    "bias": np.ones(1, np.float32),
}
UNITS = stock_units(ROW)


@pytest.mark.parametrize(
    ("shape", "limit"),
    [
        ((1 << 30, 2), None),
        (((1 << 32) - 1,) * 32, None),
        ((1, (1 << 32) - 1), None),
        ((101,), 100),
        ((11, 10), 109),
    ],
)
@pytest.mark.parametrize("payload_type", [samples.INT, samples.FLOAT, samples.RAW_FLOAT])
def test_huge_tensors_are_refused_before_they_take_memory(
    shape: tuple[int, ...], limit: int | None, payload_type: int, tmp_path: Path
) -> None:
    unit = samples.data_unit("huge", shape, payload_type=payload_type)
    stream = open_bytes(samples.stream_of(samples.data_unit("w", (4, 4)), unit))
    options = {} if limit is None else {"max_size": 4 * 16 + 4 * limit}
    reads: list[Callable[[], object]] = [
        lambda: nnguard.decompress(stream, **options),
        lambda: list(nnguard.iter_tensors(stream, **options)),
        lambda: nnguard.decompress_to_file(stream, tmp_path / "m.safetensors", **options),
    ]
    tracemalloc.start()
    try:
        for read in reads:
            with pytest.raises(
                nnguard.errors.LimitError, match=r"huge has \d+ weights; limit|decode to \d+, or"
            ):
                read()
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert not list(tmp_path.iterdir())


def test_stream_of_as_many_bytes_as_the_limit_is_decoded() -> None:
    stream = nnguard.compress({"w": np.ones((5, 20), np.float32), "n": np.ones(5, np.int64)})
    assert nnguard.decompress(stream, max_size=440)["w"].shape == (5, 20)
    with pytest.raises(
        nnguard.errors.LimitError, match="decode to 440, or take as long; limit 439"
    ) as caught:
        nnguard.decompress(stream, max_size=439)
    assert "max_size" in caught.value.hint


@pytest.mark.parametrize("tensors", [1, 9])
def test_streams_of_little_decode_to_little(tensors: int, tmp_path: Path) -> None:
    """Rows that are skipped take a bin each: 256 MiB of zeros fit into some hundred bytes."""
    zeros = {f"w{n}": np.zeros((1 << 10, (1 << 16) // tensors), np.float32) for n in range(tensors)}
    stream = nnguard.compress(zeros)
    path = tmp_path / "model.safetensors"
    assert stream.size < 2000
    for read in (
        lambda **options: nnguard.decompress(stream, **options),
        lambda **options: list(nnguard.iter_tensors(stream, **options)),
        lambda **options: nnguard.decompress_to_file(stream, path, **options),
    ):
        with pytest.raises(nnguard.errors.LimitError, match="limit 134217728"):
            read()
        read(max_size=1 << 28)
        path.unlink(missing_ok=True)
        read(verified=True)
    assert path.stat().st_size > 255 << 20


def test_large_streams_may_decode_to_more() -> None:
    """128 bytes for each of their own."""
    zeros = {"w": np.zeros((1 << 10, (1 << 15) + 64), np.float32)}
    padding = np.random.default_rng(0).integers(-(1 << 40), 1 << 40, 1 << 18)
    with pytest.raises(nnguard.errors.LimitError):
        nnguard.decompress(nnguard.compress(zeros))
    found = nnguard.decompress(nnguard.compress({**zeros, "padding": padding}))
    assert found["w"].shape == zeros["w"].shape


@pytest.mark.parametrize("shape", [(0, *((1 << 32) - 1,) * 3), (*((1 << 32) - 1,) * 5, 0)])
def test_empty_tensor_of_impossible_dimensions_is_refused(shape: tuple[int, ...]) -> None:
    unit = samples.data_unit("w", shape, b"", payload_type=samples.RAW_FLOAT)
    with pytest.raises(nnguard.errors.FormatError, match="dimensions that no array can have"):
        nnguard.decompress(open_bytes(samples.stream_of(unit)))


@pytest.mark.parametrize(("density", "base_qp"), [(0, 4095), (0, 200), (2, 900), (4, 4000)])
def test_step_beyond_float32_is_refused(density: int, base_qp: int) -> None:
    options = {"qp": -10, "nonweight_qp": -10, "qp_density": density}
    unit = samples.split(stock.encode(ROW, **options))[3]  # type: ignore[arg-type]
    units = (samples.start_unit(), samples.model_unit(density=density, base_qp=base_qp), unit)
    with pytest.raises(nnguard.errors.FormatError, match="tensor row has a step beyond float32"):
        nnguard.decompress(open_bytes(b"".join(units)))


def test_weights_beyond_float32_are_infinite() -> None:
    """As the stock decoder has it; nothing warns."""
    weights = np.array([[1e6, -1e6, 0]], np.float32)
    (unit,) = stock_units({"w": weights})
    units = (samples.start_unit(), samples.model_unit(base_qp=500), unit)
    found = nnguard.decompress(open_bytes(b"".join(units)))["w"]
    assert found.tolist() == [[np.inf, -np.inf, 0]]


TOOLS = {
    "codebook": samples.data_unit("w", codebook=True),
    "block": samples.data_unit("w", payload_type=samples.BLOCK),
    "unknown payload": samples.data_unit("w", payload_type=9),
    "partial data": samples.data_unit("w", partial=True),
    "aggregate": samples.unit(samples.AGG, b"abc"),
    "empty, quantized": samples.data_unit("w", (0, 5)),
    "layer parameters": samples.unit(samples.LPS, b"abc") + samples.data_unit("w"),
}


@pytest.mark.parametrize("case", TOOLS)
def test_tools_that_are_not_decoded_are_named_as_the_reason(case: str) -> None:
    stream = open_bytes(samples.stream_of(*UNITS, TOOLS[case]))
    reads: tuple[Callable[[nnguard.Stream], object], ...] = (
        nnguard.decompress,
        lambda stream: next(nnguard.iter_tensors(stream)),
    )
    for read in reads:
        with pytest.raises(nnguard.errors.FormatError, match="tools of the standard") as caught:
            read(stream)
        assert caught.value.offset == stream[-1].offset
        assert "nncodec" in caught.value.hint


def test_two_tensors_of_one_name_are_refused() -> None:
    with pytest.raises(nnguard.errors.FormatError, match="same name"):
        nnguard.decompress(open_bytes(samples.stream_of(UNITS[0], UNITS[1], UNITS[0])))


@pytest.mark.parametrize("length", [0, 1, 19, 21, 24, 40])
def test_raw_weights_of_the_wrong_length_are_refused(length: int) -> None:
    unit = samples.data_unit("w", (5,), bytes(length), payload_type=samples.RAW_FLOAT)
    with pytest.raises(nnguard.errors.FormatError, match="tensor w"):
        nnguard.decompress(open_bytes(samples.stream_of(unit)))


def test_raw_weights_are_read() -> None:
    weights = np.array([[1.5, np.nan], [-np.inf, 3e38]], np.float32)
    unit = samples.data_unit("w", (2, 2), weights.tobytes(), payload_type=samples.RAW_FLOAT)
    data = b"".join([*samples.split(stock.encode(ROW))[:3], unit])
    assert np.array_equal(nnguard.decompress(open_bytes(data))["w"], weights, equal_nan=True)
    assert np.array_equal(stock.decode(data)["w"], weights, equal_nan=True)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("bool", [2]),
        ("bool", [-1]),
        ("uint8", [-1]),
        ("uint8", [256]),
        ("uint16", [1 << 16]),
        ("uint32", [-1]),
        ("uint64", [-5]),
    ],
)
def test_integers_out_of_the_range_of_their_format_are_refused(
    name: str, values: list[int], tmp_path: Path
) -> None:
    (unit,) = stock_units({"w": np.array([0, 1, *values], np.int32)})
    lying = samples.stream_of(about({"formats": {name: [[0, 0]]}}), unit)
    with pytest.raises(nnguard.errors.FormatError, match=f"tensor w of {name} has values out of"):
        nnguard.decompress(open_bytes(lying))
    with pytest.raises(nnguard.errors.FormatError, match="out of"):
        nnguard.decompress_to_file(open_bytes(lying), tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "value"), [("int8", 128), ("int8", -129), ("int16", 1 << 15)])
def test_integers_out_of_the_range_of_their_header_are_refused(name: str, value: int) -> None:
    honest = nnguard.compress({"w": np.array([0], name)})
    (unit,) = stock_units({"w": np.array([value], np.int32)})
    header, other = honest[3].tensor, open_bytes(samples.stream_of(unit))[2].tensor
    assert header is not None
    assert other is not None
    body = honest[3].read()[2 : header.payload_offset] + unit[other.payload_offset :]
    lying = b"".join([*samples.split(bytes(honest))[:3], samples.unit(samples.NDU, body[1:])])
    with pytest.raises(nnguard.errors.FormatError, match=f"tensor w of {name} has values out of"):
        nnguard.decompress(open_bytes(lying))


MALFORMED = {
    "cut": '{"nnguard":{"scalars":[[0,0]',
    "rest behind": '{"nnguard":{}}x',
    "text": '{"nnguard":"scalars"}',
    "list": '{"nnguard":[]}',
    "null": '{"nnguard":null}',
    "unknown key": '{"nnguard":{"layers":[]}}',
    "unknown format": '{"nnguard":{"formats":{"float8":[[0,0]]}}}',
    "formats are a list": '{"nnguard":{"formats":[]}}',
    "formats are null": '{"nnguard":{"formats":null}}',
    "ranges are null": '{"nnguard":{"formats":{"bool":null}}}',
    "ranges are a number": '{"nnguard":{"scalars":1}}',
    "ranges are an object": '{"nnguard":{"scalars":{"0":0}}}',
    "deep": '{"nnguard":{"scalars":' + "[" * 200_000,
    "deep and closed": '{"nnguard":{"scalars":' + "[" * 200_000 + "]" * 200_000 + "}}",
    "long number": '{"nnguard":{"scalars":[[0,' + "9" * 10_000 + "]]}}",
    "no JSON": '{"nnguard":nonsense}',
}
RANGES: dict[str, list[object]] = {
    "overlapping": [[1, 1], [1, 1]],
    "descending": [[3, 3], [1, 1]],
    "backward": [[1, 0]],
    "negative": [[-1, 0]],
    "beyond the end": [[1, 4]],
    "far beyond the end": [[1, 1 << 62]],
    "one number": [[1]],
    "three numbers": [[1, 1, 1]],
    "fraction": [[1.0, 1]],
    "text": [["1", "1"]],
    "no range": [1],
    "null": [None],
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_topology_is_refused(case: str) -> None:
    stream = open_bytes(samples.stream_of(topology(MALFORMED[case]), *UNITS))
    with pytest.raises(nnguard.errors.FormatError, match="topology unit is malformed") as caught:
        nnguard.decompress(stream)
    assert caught.value.offset == stream[2].offset


@pytest.mark.parametrize("case", RANGES)
@pytest.mark.parametrize("key", ["scalars", "formats"])
def test_ranges_that_make_no_sense_are_refused(case: str, key: str) -> None:
    said = {"scalars": RANGES[case]} if key == "scalars" else {"formats": {"int8": RANGES[case]}}
    with pytest.raises(nnguard.errors.FormatError, match="lists tensors that are not there"):
        nnguard.decompress(open_bytes(samples.stream_of(about(said), *UNITS)))


@pytest.mark.parametrize("index", [0, 2])
def test_scalar_of_several_numbers_is_refused(index: int, tmp_path: Path) -> None:
    stream = open_bytes(samples.stream_of(about({"scalars": [[index, index]]}), *UNITS))
    for read in (
        nnguard.decompress,
        lambda stream: nnguard.decompress_to_file(stream, tmp_path / "m.safetensors"),
    ):
        with pytest.raises(nnguard.errors.FormatError, match="is not a scalar"):
            read(stream)
    assert not list(tmp_path.iterdir())


def test_topology_is_believed_where_it_makes_sense() -> None:
    said = {"scalars": [[1, 1], [3, 3]], "formats": {"uint8": [[1, 1]], "bfloat16": [[3, 3]]}}
    found = nnguard.decompress(open_bytes(samples.stream_of(about(said), *UNITS)))
    assert {name: (array.dtype.name, array.shape) for name, array in found.items()} == {
        "row": ("float32", (1, 5)),
        "one": ("uint8", ()),
        "counts": ("int32", (5,)),
        "bias": ("bfloat16", ()),
    }
    assert int(found["one"]) == 7


@pytest.mark.parametrize("name", ["bool", "int8", "uint64", "float64", "bfloat16", "float16"])
def test_formats_that_do_not_fit_the_payload_do_not_count(name: str) -> None:
    is_float = "float" in name
    positions = [[1, 2]] if is_float else [[0, 0], [3, 3]]
    said = {"formats": {name: positions}}
    found = nnguard.decompress(open_bytes(samples.stream_of(about(said), *UNITS)))
    for key, array in found.items():
        assert array.dtype == ROW[key].dtype


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a graph of another tool",
        '{"layers":[1,2]}',
        ' {"nnguard":{"scalars":[[0,9]]}}',
        '{"nnguard":' + '{"scalars":[[0,9]]}' + " " * (1 << 24) + "}",
    ],
    ids=["empty", "text", "other", "not first", "too long to look into"],
)
def test_topologies_of_others_do_not_matter(text: str) -> None:
    found = nnguard.decompress(open_bytes(samples.stream_of(topology(text), *UNITS)))
    for key, array in found.items():
        assert (array.dtype, array.shape) == (ROW[key].dtype, ROW[key].shape)


def small_model() -> dict[str, stock.Array]:
    rng = np.random.default_rng(1)
    return {
        "conv.weight": rng.laplace(0, 0.1, (6, 4, 3)).astype(np.float32),
        "half": rng.normal(0, 1, 20).astype(np.float16),
        "mask": rng.integers(0, 2, (3, 4)).astype(np.bool_),
        "steps": np.array(12345),
        "large": np.array([1 << 40, -5]),
        "empty": np.zeros((0, 3), np.float32),
    }


@pytest.mark.parametrize("scan_order", [0, 1])
@pytest.mark.parametrize("dependent", [True, False])
def test_damaged_streams_are_refused_or_give_other_weights(
    dependent: bool, scan_order: int, tmp_path: Path
) -> None:
    settings = nnguard.Settings(dependent=dependent, scan_order=scan_order)
    data = bytes(nnguard.compress(small_model(), settings))
    rng = random.Random(scan_order)
    damaged = [data[:length] for length in range(0, len(data), 3)]
    for _ in range(400):
        changed = bytearray(data)
        for _ in range(rng.choice([1, 1, 2, 30])):
            changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        damaged.append(bytes(changed))
    path = tmp_path / "m.safetensors"
    refused = 0
    for hostile in damaged:
        try:
            stream = open_bytes(hostile)
            found = nnguard.decompress(stream, max_size=1 << 18)
            nnguard.decompress_to_file(stream, path, max_size=1 << 18, overwrite=True)
        except (nnguard.errors.FormatError, nnguard.errors.LimitError, nnguard.errors.ModelError):
            refused += 1
        else:
            assert all(isinstance(array, np.ndarray) for array in found.values())
    assert len(damaged) / 3 < refused < len(damaged)


@pytest.mark.parametrize("name", ["default", "scan1_urq", "scan2", "urq"])
def test_payloads_that_are_cut_short_are_refused(name: str) -> None:
    units = samples.split(samples.read(name))
    for index, unit in enumerate(open_bytes(samples.read(name))):
        header = open_bytes(samples.read(name)).coded_tensor(index)
        if header is None or header.size > 5000:
            continue
        for missing in (1, 2, unit.size - header.payload_offset):
            body = units[index][: unit.size - missing][2:]
            cut = [*units[:index], samples.unit(samples.NDU, body[1:]), *units[index + 1 :]]
            with pytest.raises(nnguard.errors.FormatError, match=header.name):
                nnguard.decompress(open_bytes(b"".join(cut)))


@pytest.mark.parametrize(
    "name", [name for name in FORMATS if name not in ("bool", "int8", "uint8")]
)
def test_arrays_of_the_other_byte_order(name: str) -> None:
    native = np.array([[1, 2, 3], [0, 5, 6]]).astype(
        ml_dtypes.bfloat16 if name == "bfloat16" else name
    )
    swapped = native.view(f"u{native.itemsize}").byteswap().view(native.dtype.newbyteorder())
    assert swapped.dtype.byteorder != "="
    assert np.array_equal(native, swapped)
    for view in (lambda array: array, np.transpose, lambda array: array[0, 1]):
        stream = nnguard.compress({"w": view(native)})
        assert bytes(stream) == bytes(nnguard.compress({"w": view(swapped)}))


def test_masked_arrays_are_refused() -> None:
    """A stream has no place for the mask, and what is under it may be anything."""
    array = np.ma.masked_array([1.0, 2.0], [False, True])
    with pytest.raises(nnguard.errors.ModelError, match="w is masked") as caught:
        nnguard.compress({"w": array})
    assert "filled" in caught.value.hint


def test_arrays_larger_than_a_stream_are_not_copied_first() -> None:
    for shape in ((1 << 40,), (1 << 20, 1 << 20)):
        with pytest.raises(nnguard.errors.ModelError, match=r"the coder ends|no stream"):
            nnguard.compress({"w": np.broadcast_to(np.float32(0), shape)})
