"""The stock NNCodec coder, as the independent peer of the tests.

`encode` and `decode` do what `nncodec.nn.encode` and `nncodec.nn.decode` do with a dict of arrays,
through `nncodec.nnc_core` alone: that needs neither torch nor pandas, `nncodec.nn` needs both. Law:
`encode` gives the stock encoder's bytes, `decode` the stock decoder's weights. Nothing of nnguard
is used here. The stock coder asserts, prints and reads past damaged input; that is left as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from nncodec.nnc_core import approximator, coder, nnr_model

__all__ = ["Array", "decode", "encode"]

Array = npt.NDArray[Any]


def decode(data: bytes) -> dict[str, Array]:
    """Decode a stream with the stock decoder.

    Args:
        data: The stream.

    Returns:
        Each tensor's array in the stream's order: float32 where it was quantized or stored raw,
        int32 where it was coded as integers.
    """
    performance_maps = ("sparsification", "pruning", "unification", "decomposition_performance_map")
    model: dict[str, Any] = {
        "parameter_type": {},
        "parameter_dimensions": {},
        "parameter_index": {},
        "block_identifier": {},
        "topology_storage_format": None,
        "topology_compression_format": None,
        "performance_maps": {"mps": {}, "lps": {}},
        "performance_map_flags": {
            f"{unit}_{name}_flag": {} for name in performance_maps for unit in ("mps", "lps")
        },
    }
    decoded = coder.decode(bytearray(data), model, oob_dict={}, hls_stats={})
    approximator.rec(decoded)
    parameters: dict[str, Array] = approximator.recompose_params(model, decoded)["parameters"]
    return parameters


def encode(
    arrays: Mapping[str, Array],
    *,
    qp: int = -38,
    nonweight_qp: int = -75,
    qp_density: int = 2,
    dependent: bool = True,
    parameter_optimization: bool = True,
    row_skipping: bool = True,
    unary_length_minus1: int = 10,
    scan_order: int = 0,
    qp_per_tensor: Mapping[str, int] | None = None,
    optimized_qp: bool = False,
    bit_depth: int | None = None,
    codebook: bool = False,
) -> bytes:
    """Encode arrays with the stock encoder.

    The stock defaults are these, but for two: `nncodec.nn.encode` has a `qp` of -32, and
    `nncodec.nnc.compress`, which alone takes `qp_density`, `unary_length_minus1` and `scan_order`,
    has no `row_skipping`.

    Args:
        arrays: float32 arrays, to be quantized, and int32 arrays, which are coded as integers.
            Arrays of two or more dimensions are weights. Scalars get shape `(1,)`.
        qp: Quantization parameter of weights.
        nonweight_qp: Quantization parameter of all other float32 arrays.
        qp_density: Steps an octave are `2**qp_density`.
        dependent: Trellis-coded quantization, otherwise uniform.
        parameter_optimization: Fit the initial states of the contexts.
        row_skipping: Flag all-zero rows instead of coding them.
        unary_length_minus1: Greater-than flags of the binarization, less one.
        scan_order: 0 for row by row; above 0, blocks of `4 << scan_order`, with entry points.
        qp_per_tensor: Names to quantization parameters that go before the other two.
        optimized_qp: Raise the quantization parameter of large and wide tensors (`opt_qp`).
        bit_depth: Choose quantization parameters for indices of so many bits (`bitdepth`).
        codebook: Try codebooks (`approx_method` of `codebook`).

    Returns:
        The stream.

    Raises:
        TypeError: An array is neither float32 nor int32.
    """
    parameters = {name: _as_parameter(name, array) for name, array in arrays.items()}
    model = nnr_model.NNRModel(parameters).model_info
    data = approximator.init_approx_data(
        parameters, model, qp_density=qp_density, scan_order=scan_order
    )
    settings = approximator.ApproxInfo(
        data,
        model,
        "codebook" if codebook else "uniform",
        2 if codebook else 0,
        qp,
        optimized_qp,
        not dependent,
        unary_length_minus1,
        0,
        nonweight_qp=nonweight_qp,
        qp_per_tensor=None if qp_per_tensor is None else dict(qp_per_tensor),
        int_quant_bw=bit_depth,
    )
    options = {
        "cabac_unary_length_minus1": unary_length_minus1,
        "param_opt_flag": parameter_optimization,
        "partial_data_counter": 0,
        "general_profile_idc": 1,
        "node_id_present_flag": 1,
        "device_id": 0,
        "mps_parent_signalling_enabled_flag": 0,
        "parent_node_id_present_flag": 0,
        "temporal_context_modeling_flag": 0,
        "row_skip_enabled_flag": int(row_skipping),
        "pre_signalling": 0,
    }
    quantized = approximator.approx(settings.approx_info, model, data, options)
    stream, _ = coder.encode(enc_info=options, model_info=model, approx_data=quantized)
    return bytes(stream)


def _as_parameter(name: str, array: Array) -> Array:
    """Return the array as the stock encoder wants it: on other layouts it may quantize to zeros."""
    if array.dtype not in (np.float32, np.int32):
        raise TypeError(f"array {name} is {array.dtype}; the stock coder takes float32 and int32")
    return np.ascontiguousarray(array)  # at least one dimension
