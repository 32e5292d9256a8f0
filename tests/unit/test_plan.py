"""Peaks are chosen where they cost least."""

import numpy as np
import pytest

import nnguard
import stock
from nnguard.hiding import hqim
from nnguard.hiding.hqim import Peak
from nnguard.hiding.plan import choose_peaks, total_capacity
from nnguard.stream.coding import QuantisedTensor, find_settings


def tensor_of(counts: dict[int, int], *, qp: int = 0, dependent: bool = False) -> QuantisedTensor:
    """Return a tensor with a histogram made by hand."""
    values = np.repeat(np.array(list(counts), np.int32), list(counts.values()))
    values = np.resize(np.pad(values, (0, -values.size % 20)), (-(-values.size // 20), 20))
    zeros = {"w": np.zeros(values.shape, np.float32)}
    stream = nnguard.Stream.from_bytes(stock.encode(zeros, qp=qp, dependent=dependent))
    found = [find_settings(unit) for unit in stream if unit.name == "w"]
    assert found[0] is not None
    return found[0].with_indices(values)


def peaks_for(tensor: QuantisedTensor, needed: int, head: int = 10) -> tuple[Peak, ...]:
    choice = choose_peaks([tensor], needed, head=head, header=head)
    assert choice is not None
    return choice.peaks[0]


def test_last_bin_has_no_tail() -> None:
    assert peaks_for(tensor_of({0: 1000, 1: 300, 2: 300, 3: 300}), 200) == (Peak(3, 1),)


def test_short_tail_beats_many_places() -> None:
    assert peaks_for(tensor_of({0: 5000, 1: 4000, 2: 200}), 150) == (Peak(2, 1),)


def test_negative_side_moves_down() -> None:
    assert peaks_for(tensor_of({0: 1000, 1: 500, 2: 500, -1: 300}), 200) == (Peak(-1, -1),)


def test_many_bits_take_many_peaks() -> None:
    tensor = tensor_of({0: 1000, 1: 100, 2: 100, -1: 100, -2: 100})
    choice = choose_peaks([tensor], 350, head=10, header=10)
    assert choice is not None
    assert choice.bits == hqim.capacity(tensor.indices, choice.peaks[0]) == 400
    assert all(peak.value for peak in choice.peaks[0]), "the thousand zeros stay as they are"


def test_first_peak_holds_the_head() -> None:
    tensor = tensor_of({0: 2000, 1: 400, 2: 100, 3: 100})
    choice = choose_peaks([tensor], 150, head=300, header=300)
    assert choice is not None
    assert choice.first_bits >= 300
    assert choice.peaks[0][0] == Peak(1, 1)


def test_coarser_tensor_is_spared() -> None:
    fine, coarse = tensor_of({1: 300}, qp=-30), tensor_of({1: 5000}, qp=-10)
    choice = choose_peaks([fine, coarse], 250, head=10, header=10)
    assert choice is not None
    assert choice.peaks[1] == ()


def test_header_stays_in_the_primary_carrier() -> None:
    primary, other = tensor_of({1: 300, 2: 300}, qp=-10), tensor_of({1: 5000}, qp=-30)
    choice = choose_peaks([primary, other], 1000, head=100, header=500)
    assert choice is not None
    assert choice.primary_bits >= 500
    assert choice.peaks[1]


def test_trellis_keeps_classes_apart() -> None:
    tensor = tensor_of({1: 300, 2: 300, 3: 300, 4: 300, 5: 300}, dependent=True)
    peaks = peaks_for(tensor, 1200)
    assert Peak(5, 1) in peaks
    bits = np.ones(hqim.capacity(tensor.indices, peaks, stride=4), np.uint8)
    marked = hqim.embed(tensor.indices, peaks, bits, stride=4)
    assert np.array_equal(np.mod(marked, 4), np.mod(tensor.indices, 4))


@pytest.mark.parametrize("dependent", [True, False])
def test_everything_can_be_used(dependent: bool) -> None:
    tensor = tensor_of({v: 60 - abs(v) for v in range(-30, 31) if v}, dependent=dependent)
    room = sum(60 - abs(v) for v in range(-30, 31) if v)
    choice = choose_peaks([tensor], room, head=10, header=10)
    assert choice is not None
    assert choice.bits >= room
    stride = 4 if dependent else 1
    bits = np.ones(choice.bits, np.uint8)
    marked = hqim.embed(tensor.indices, choice.peaks[0], bits, stride=stride)
    hidden, restored = hqim.extract(marked, choice.peaks[0], stride=stride)
    assert np.array_equal(hidden, bits)
    assert np.array_equal(restored, tensor.indices)


def test_too_many_bits_are_refused() -> None:
    tensor = tensor_of({1: 300, 2: 300})
    assert choose_peaks([tensor], 100_000, head=10, header=10) is None
    assert choose_peaks([tensor], 100, head=301, header=301) is None


def test_bins_that_do_not_pay_for_themselves_are_left() -> None:
    assert total_capacity(tensor_of({3: 10, 5: 16, -7: 12}, dependent=True)) == 0
    assert total_capacity(tensor_of({3: 100}, dependent=True)) == 84


def test_distortion_grows_with_the_square_of_the_step() -> None:
    counts = {0: 1000, 5: 300, 6: 20, -5: 300, -6: 20}
    fine, coarse = (
        choose_peaks([tensor_of(counts, qp=qp)], 400, head=100, header=100) for qp in (-12, -8)
    )
    assert fine is not None
    assert coarse is not None
    assert fine.peaks == coarse.peaks
    assert coarse.distortion == pytest.approx(4 * fine.distortion)


def test_distortion_counts_what_moves() -> None:
    tensor = tensor_of({0: 1000, 5: 300, 6: 20}, qp=-8)
    choice = choose_peaks([tensor], 200, head=100, header=100)
    assert choice is not None
    assert choice.peaks[0] == (Peak(5, 1),)
    assert choice.distortion > 0.99 * (300 / 2 + 20) * tensor.step**2
