"""How tensors are quantized and coded, in the standard's terms."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from nnguard._base.mappings import EMPTY, FrozenMapping
from nnguard.errors import ArgumentError

__all__ = ["Settings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a model is compressed. The same settings give the stock encoder's bytes.

    Attributes:
        qp: Quantization parameter of tensors with two or more dimensions. Each step of
            `2**qp_density` halves or doubles the step size; lower is finer.
        nonweight_qp: Quantization parameter of all other floating-point tensors: biases, norms.
        qp_per_tensor: Names to quantization parameters that go before these two.
        qp_density: Quantization parameters an octave, as a power of two (0 to 7).
        dependent: Trellis-coded quantization (TCQ), finer for the same size; otherwise uniform
            (URQ), faster.
        parameter_optimization: Fit the coder's initial states to each tensor: some percent of
            size for about three times the time.
        row_skipping: Flag all-zero rows instead of coding them.
        unary_length: Greater-than flags of the binarization (1 to 256).
        bit_depth: Choose each tensor's quantization parameter so that its indices are integers of
            so many bits (2 to 16), unsigned where no weight is negative; the largest 0.05 % are
            cut off. Goes before all other parameters. With TCQ the cut spoils what follows in the
            tensor, in the stock encoder too: set `dependent=False` with it.
        scan_order: 0 to code row by row; 1 to 4 in blocks of `4 << scan_order` rows and columns,
            with entry points for decoders that work in parallel. Such tensors cannot carry a
            record, or be locked.

    Raises:
        ArgumentError: A value is out of range.

    Examples:
        >>> settings = nnguard.Settings(qp=-26, qp_per_tensor={"fc2.weight": -38})
        >>> nnguard.compress("model.safetensors", settings).size < 30_000
        True
    """

    qp: int = -38
    nonweight_qp: int = -75
    qp_per_tensor: Mapping[str, int] = EMPTY
    qp_density: int = 2
    dependent: bool = True
    parameter_optimization: bool = True
    row_skipping: bool = True
    unary_length: int = 11
    bit_depth: int | None = None
    scan_order: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "qp_per_tensor", FrozenMapping(self.qp_per_tensor))
        _check_range("the density of quantization parameters", self.qp_density, 0, 7)
        limit = 1 << (5 + self.qp_density)
        parameters = {"weights": self.qp, "all other tensors": self.nonweight_qp}
        parameters |= {f"tensor {name}": qp for name, qp in self.qp_per_tensor.items()}
        for name, qp in parameters.items():
            what = f"the quantization parameter of {name} (at density {self.qp_density})"
            _check_range(what, qp, -limit, limit - 1)
        _check_range("the unary length", self.unary_length, 1, 256)
        if self.bit_depth is not None:
            _check_range("the bit depth", self.bit_depth, 2, 16)
        _check_range("the scan order", self.scan_order, 0, 4)

    def qp_of(self, name: str, dimensions: int) -> int:
        """Return the quantization parameter of a tensor."""
        return self.qp_per_tensor.get(name, self.qp if dimensions > 1 else self.nonweight_qp)

    def check_names(self, names: Collection[str]) -> None:
        """Refuse quantization parameters for tensors that are not there.

        Raises:
            ArgumentError: There are some.
        """
        unknown = sorted(set(self.qp_per_tensor) - set(names))
        if unknown:
            shown = ", ".join(unknown[:5])
            raise ArgumentError(f"quantization parameters for tensors that are not there: {shown}")


def _check_range(name: str, value: int, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is an integer, not {type(value).__name__}")
    if not least <= value <= most:
        raise ArgumentError(f"{name} is {value}; it goes from {least} to {most}")
