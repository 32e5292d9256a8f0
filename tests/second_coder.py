"""A second coder of payloads, written from section 2.4 of `docs/SPEC.md` alone.

It shows that the page says all that is needed: only the standard library is used here. Numbers in
docstrings are sections of that page. One procedure, `code`, serves both directions: it tells the
coder each bin as it should be encoded, and goes on with the bin that it gets back. A `Writer` gives
the same bin, a `Reader` passes over it and gives the one that the payload has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import floor, log2
from typing import Any

__all__ = [
    "Damaged",
    "Decoded",
    "decode_payload",
    "encode",
    "encode_payload",
    "search_start_states",
]

Entry = tuple[int, int, int]

P = "114 100 87 75 66 58 51 45 40 35 31 27 24 21 18 16 14 13 11 10 9 8 7 7 5 5 4 4 3 3 2 2"
LESS = tuple(map(int, P.split()))
"""2.4.2: by row, for the range of the less probable symbol."""

C = (157, 143, 129, 115, 101, 87, 73, 59, 45, 35, 29, 23, 17, 13, 9, 5, *[4] * 15, 0)
"""2.4.2: by how much an estimate changes."""

FAST, SLOW = (1, 1, 1, 0, 2, 2, 2, 3, 3), (0, 0, 0, 1, 2, 2, 2, 1, 1)
A, B = (0, -41, 95, 0, 30, 95, -21, 0, 30), (0, -654, 1519, 0, 482, 1519, -337, 0, 482)
STARTS = tuple(zip(A, B, FAST, SLOW, strict=True))
"""2.4.2: the start states."""

NEXT = ((0, 7, 1, 6, 2, 5, 3, 4), (2, 5, 3, 4, 0, 7, 1, 6))
"""4: the states that follow an even number and an odd one."""


class Damaged(ValueError):  # noqa: N818 (like `second_reader.Outcome`)
    """The page calls it wrong, or says that a reader refuses it."""


@dataclass(frozen=True)
class Decoded:
    """What a payload holds.

    `qp` is as coded, less the model's. `skipped_rows` are the numbers of flagged rows, None where
    no rows have flags. Entry points are position, value and state; positions count from `N[0]`.
    """

    qp: int
    start_states: tuple[int, ...]
    skipped_rows: tuple[int, ...] | None
    indices: list[int]
    entry_points: list[Entry] = field(default_factory=list)


@dataclass
class Plan:
    """What the headers say of a tensor, and 2.4.3: where each kind of context begins."""

    rows: int
    width: int
    dependent: bool
    unary_length: int
    qp_bits: int = 0
    row_flag: bool = False
    scan_order: int = 0

    def __post_init__(self) -> None:
        smallest = min(self.rows, self.width, self.unary_length)
        if smallest < 1 or self.unary_length > 256 or self.scan_order > 4:
            raise Damaged("shape, unary length or scan order")
        self.sign = 24 if self.dependent else 3
        self.greater = self.sign + 3
        self.prefix = self.greater + 2 * self.unary_length
        self.total = self.prefix + 31

    def runs(self) -> Iterator[tuple[int, int, int, bool]]:
        """2.4.6: a row, its columns from and to, and whether a row of blocks begins there."""
        height, length = self.rows, self.width
        if self.scan_order and height > 1 and length > 1:
            height = length = 4 << self.scan_order
        for top in range(0, self.rows, height):
            for left in range(0, self.width, length):
                for row in range(top, min(top + height, self.rows)):
                    begins = self.rows > height and (row, left) == (top, 0)
                    yield row, left, min(left + length, self.width), begins


class Coder:
    """2.4.1: what both directions share. The last two contexts are for row flags, start states.

    Each direction has its `shift`, its `upper` (whether the bin is the one that has the upper part
    of the interval, from `R` on; if so, go there), and its `begin_row` (2.4.6: of blocks).
    """

    def __init__(self, plan: Plan) -> None:
        self.n, self.r = 0, 510
        self.contexts = [list(STARTS[0]) for _ in range(plan.total + 2)]
        self.entries: list[Entry] = []

    def start(self, states: Sequence[int]) -> None:
        self.contexts[: len(states)] = [list(STARTS[state]) for state in states]

    def bin(self, number: int, value: bool) -> bool:
        """A bin with that context."""
        context = self.contexts[number]
        a, b, fast, slow = context
        result, less = b + 16 * a >= 0, LESS[abs(b + 16 * a >> 7)] * ((self.r >> 5) + 1) >> 3
        self.r -= less
        if self.upper(value != result):
            self.r, result = less, not result
        while self.r < 256:
            self.r *= 2
            self.shift()
        s = 1 if result else -1
        context[0] = a + s * (C[16 + (s * a >> 3)] >> fast)
        context[1] = b + s * (C[16 + (s * b >> 7)] >> slow)
        return result

    def bypass(self, width: int, number: int) -> int:
        """A number in so many bypass bins."""
        result = 0
        for at in reversed(range(width)):
            self.shift()
            result = 2 * result + self.upper(number >> at & 1 == 1)
        return result


class Reader(Coder):
    """2.4.1: a decoder."""

    def __init__(self, plan: Plan, payload: bytes) -> None:
        super().__init__(plan)
        self.bits = [byte >> at & 1 for byte in payload for at in range(7, -1, -1)]
        self.v = int.from_bytes(payload[:2], "big") >> 7
        if len(payload) < 2 or self.v >= 510:
            raise Damaged("the payload cannot begin so")

    def shift(self) -> None:
        self.n += 1
        if self.n + 8 >= len(self.bits):
            raise Damaged("the payload ends too early")
        self.v = 2 * self.v + self.bits[self.n + 8]

    def upper(self, value: bool) -> bool:
        if self.v < self.r:
            return False
        self.v -= self.r
        return True

    def begin_row(self, state: int) -> None:
        self.r = 256
        if self.v >= 256:
            raise Damaged("a row of blocks cannot begin so")
        self.entries.append((self.n, self.v, state))

    def end(self) -> None:
        stop, *rest = self.bits[self.n + 8 :]
        if self.v < self.r - 2 or not stop or any(rest) or len(rest) > 7:
            raise Damaged("the payload cannot end so")


class Writer(Coder):
    """2.4.1: an encoder. `L` is the sum of `low` and `high`, which keeps numbers short."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.low = 0
        self.high: list[tuple[int, int]] = []  # `N` as it was, and what `low` then lost

    def shift(self) -> None:
        self.n += 1
        self.low *= 2
        if self.n % 512 == 0:
            self.high.append((self.n, self.low >> 9 << 9))
            self.low &= 511

    def upper(self, value: bool) -> bool:
        if value:
            self.low += self.r
        return value

    def begin_row(self, state: int) -> None:
        self.r = 256
        self.entries.append((self.n, self.low, state))

    def end(self) -> None:
        """Give the payload; 2.4.7: complete the entry points, which have had `L` for `V`."""
        number = at = 0
        for n, part in (*self.high, (self.n, self.low + self.r - 2)):
            number, at = (number << n - at) + part, n
        size = 2 + self.n // 8
        self.payload = ((number | 1) << 8 * size - 9 - self.n).to_bytes(size, "big")
        for i, (n, low, state) in enumerate(self.entries):
            window = int.from_bytes(self.payload[n // 8 : n // 8 + 2], "big") >> 7 - n % 8
            self.entries[i] = (n, (window - low) % 512, state)


class Listener(Coder):
    """2.4.8: keeps the bins of each context; None where the estimates begin again."""

    def __init__(self, plan: Plan) -> None:
        self.heard: list[list[bool | None]] = [[] for _ in range(plan.total)]

    def bin(self, number: int, value: bool) -> bool:
        self.heard[number].append(value)
        return value

    def bypass(self, width: int, number: int) -> int:
        return number  # not looked at

    def begin_row(self, state: int) -> None:
        for bins in self.heard:
            bins.append(None)


def code(coder: Reader | Writer, plan: Plan, given: Decoded) -> Decoded:
    """2.4.4."""
    qp = coder.bypass(plan.qp_bits, given.qp)
    qp -= qp >> plan.qp_bits - 1 << plan.qp_bits if plan.qp_bits else 0
    skipped, states = None, []
    may_skip = plan.row_flag and plan.rows > 1 and plan.width > 1
    if may_skip and coder.bypass(1, given.skipped_rows is not None):
        known = set(given.skipped_rows or ())
        skipped = tuple(row for row in range(plan.rows) if coder.bin(plan.total, row in known))
    for state in given.start_states:
        other = coder.bin(plan.total + 1, state != 0)
        states.append(coder.bypass(3, state - 1) + 1 if other else 0)
    coder.start(states)
    indices = code_integers(coder, plan, given.indices, skipped or (), states)
    coder.end()
    points = [(n - coder.entries[0][0], v, state) for n, v, state in coder.entries[1:]]
    return Decoded(qp, tuple(states), skipped, indices, points)


def code_integers(
    coder: Coder, plan: Plan, given: Sequence[int], skipped: Sequence[int], states: Sequence[int]
) -> list[int]:
    """2.4.6; the indices."""
    indices, left_out = [0] * len(given), set(skipped)
    dependent, listening = int(plan.dependent), isinstance(coder, Listener)
    state = neighbor = 0
    for row, left, right, begins in plan.runs():
        if begins:
            coder.begin_row(state)
            if not listening:
                coder.start(states)
                neighbor = 0
        if row in left_out:
            for _ in range(dependent * plan.width % 4):
                state = NEXT[0][state]
            continue
        for at in range(row * plan.width + left, row * plan.width + right):
            value = k = given[at]
            if dependent:
                k = (abs(value) + 1) // 2 * (1 if value > 0 else -1)
            neighbor = code_integer(coder, plan, state, neighbor, value if listening else k)
            if not listening:
                value = k = neighbor
                if dependent:
                    value = 2 * k - (state & 1) * ((k > 0) - (k < 0))
            if not dependent - (1 << 31) <= value < 1 << 31:
                raise Damaged("an index is too large")
            indices[at] = value
            state = NEXT[k & 1][state] if dependent else 0
    return indices


def code_integer(coder: Coder, plan: Plan, state: int, neighbor: int, value: int) -> int:
    """2.4.5."""
    n = 0 if neighbor == 0 else 1 if neighbor < 0 else 2
    k, unary = abs(value), plan.unary_length
    if not coder.bin(3 * state + n, k > 0):
        return 0
    negative = coder.bin(plan.sign + n, value < 0)
    j, context = 0, plan.greater + negative
    while j < unary and coder.bin(context + 2 * j, k > j + 1):
        j += 1
    k = j + 1 if j < unary else unary + code_rest(coder, plan.prefix, k - unary)
    return -k if negative else k


def code_rest(coder: Coder, context: int, t: int) -> int:
    """2.4.5, item 4."""
    for p in range(31):
        if not coder.bin(context + p, t >> p + 1 > 0):
            return (1 << p) + coder.bypass(p, t)
    raise Damaged("a prefix is too long")


def decode_payload(
    payload: bytes, *, entry_points: Sequence[Entry] | None = None, **fields: Any
) -> Decoded:
    """Decode a payload; `fields` are those of `Plan`.

    `entry_points` are the header's, in the form of `Decoded`; None are not looked at.

    Raises:
        Damaged: No encoder gives this.
    """
    plan = Plan(**fields)
    form = Decoded(0, (0,) * plan.total, None, [0] * (plan.rows * plan.width))
    decoded = code(Reader(plan, payload), plan, form)
    if entry_points is not None and [*map(tuple, entry_points)] != decoded.entry_points:
        raise Damaged("entry points")
    return decoded


def encode(
    indices: Sequence[int],
    *,
    qp: int = 0,
    start_states: Sequence[int] = (),
    skipped_rows: Sequence[int] | None = None,
    **fields: Any,
) -> tuple[bytes, Decoded]:
    """Give the payload, and what a decoder finds there; `fields` are those of `Plan`.

    Raises:
        Damaged: A decoder would find something else.
    """
    plan = Plan(**fields)
    states = tuple(start_states) or (0,) * plan.total
    skipped = None if skipped_rows is None else tuple(skipped_rows)
    if len(states) != plan.total or len(indices) != plan.rows * plan.width:
        raise Damaged("number of start states or indices")
    writer, given = Writer(plan), Decoded(qp, states, skipped, list(indices))
    found = code(writer, plan, given)
    if replace(found, entry_points=[]) != given:
        raise Damaged("a decoder would find something else")
    return writer.payload, found


def encode_payload(indices: Sequence[int], **fields: Any) -> bytes:
    """Give the payload alone; all else is as for `encode`."""
    return encode(indices, **fields)[0]


def search_start_states(
    indices: Sequence[int], *, skipped_rows: Sequence[int] | None = None, **fields: Any
) -> tuple[int, ...]:
    """2.4.8: the choice of the reference encoder; `fields` are those of `Plan`."""
    plan = Plan(**fields)
    listener = Listener(plan)
    code_integers(listener, plan, indices, skipped_rows or (), ())
    prices = [bin_costs(i) for i in range(-512, 512)]
    return tuple(cheapest(bins, prices) for bins in listener.heard)


def bin_costs(i: int) -> tuple[int, int]:
    """2.4.8: what a bin 0 costs, and a bin 1."""
    x = 32768 + 400.79895 * ((i if i >= 0 else min(-i, 511)) + 0.5)
    less, more = floor(x + 0.5), floor(0.5 - 32768 * log2(1 - 2 ** (-x / 32768)))
    return (less, more) if i >= 0 else (more, less)


def cheapest(bins: Sequence[bool | None], prices: Sequence[tuple[int, int]]) -> int:
    """2.4.8: the start state for these bins of a context."""
    sums = []
    for start, (first_a, first_b, fast, slow) in enumerate(STARTS):
        cost, a, b = 3 * 32768 if start else 0, first_a, first_b
        for value in bins:
            if value is None:
                a, b = first_a, first_b
                continue
            cost += prices[(b + 16 * a >> 3) + 512][value]
            s = 1 if value else -1
            a += s * (C[16 + (s * a >> 3)] >> fast)
            b += s * (C[16 + (s * b >> 7)] >> slow)
        sums.append(cost)
    return sums.index(min(sums))
