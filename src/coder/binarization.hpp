// From indices to bins (docs/SPEC.md, 2.4.5), in the order in which a tensor is coded.

#pragma once

#include <algorithm>
#include <vector>

#include "contexts.hpp"
#include "scan.hpp"

namespace nnguard {

// What the header of a unit says of the payload.
struct Format {
  bool dependent;    // trellis-coded quantization
  int unary_length;  // greater-than flags of an integer
  int qp_bits;       // of the quantization parameter; 0 for integers
  bool row_flag;     // there is a flag that says whether rows are skipped
};

// What a run of indices leaves for the next.
struct Position {
  int neighbor = 0;  // sign of the integer before: 0 zero, 1 negative, 2 positive
  int state = 0;     // of the trellis
};

// The integer that is coded for an index of a tensor in some state of the trellis.
inline int32_t coded_integer(int32_t index, int state) {
  if (!index) return 0;
  return index < 0 ? static_cast<int32_t>((int64_t{index} - (state & 1)) >> 1)
                   : static_cast<int32_t>((int64_t{index} + (state & 1)) >> 1);
}

// Gives the bins of one integer: `bin(context, bin)`, `coin` for the sign, which nothing predicts,
// and `bypass(bits, count)`. All bins but the sign are constants here, which makes coding faster.
template <class Bin, class Coin, class Bypass>
[[gnu::always_inline]] inline void binarize_integer(const Layout& layout, int32_t value, int state,
                                                    int neighbor, Bin&& bin, Coin&& coin,
                                                    Bypass&& bypass) {
  if (!value) return bin(kSigns * state + neighbor, 0);
  bin(kSigns * state + neighbor, 1);
  const uint32_t negative = value < 0;
  coin(layout.sign + neighbor, negative);
  uint32_t rest = (negative ? 0u - static_cast<uint32_t>(value) : static_cast<uint32_t>(value)) - 1;
  const uint32_t unary_length = static_cast<uint32_t>(layout.unary_length);
  const int greater = layout.greater + static_cast<int>(negative);
  const int end = greater + 2 * static_cast<int>(std::min(rest, unary_length));
  for (int context = greater; context != end; context += 2) bin(context, 1);
  if (rest < unary_length) return bin(end, 0);
  rest -= unary_length;
  int prefix = 0;
  for (; rest > (2u << prefix) - 2; ++prefix) bin(layout.prefix + prefix, 1);
  bin(layout.prefix + prefix, 0);
  bypass(rest - ((1u << prefix) - 1), prefix);
}

// Gives the bins of a run of indices and leaves its end in `position`. `value_of(index, integer)`
// is what is put into bins; the trellis follows the integer in any case.
template <class ValueOf, class Bin, class Coin, class Bypass>
inline void binarize(const Format& format, const Layout& layout, const int32_t* indices,
                     size_t count, Position& position, ValueOf&& value_of, Bin&& bin,
                     Coin&& coin, Bypass&& bypass) {
  int neighbor = position.neighbor, state = position.state;
  for (const int32_t* const end = indices + count; indices != end; ++indices) {
    const int32_t integer = format.dependent ? coded_integer(*indices, state) : *indices;
    const int32_t value = value_of(*indices, integer);
    binarize_integer(layout, value, state, neighbor, bin, coin, bypass);
    neighbor = sign_of(value);
    if (format.dependent) state = kNextTrellisState[state][integer & 1];
  }
  position = {neighbor, state};
}

// Goes through a tensor in the order of coding, while its indices come in pieces.
class IndexWalk {
 public:
  IndexWalk(const Scan& scan, const Format& format, std::vector<uint8_t> skipped_rows)
      : scan_(scan), dependent_(format.dependent), skipped_rows_(std::move(skipped_rows)) {}

  // Takes the next indices; those of whole rows of blocks where the tensor is coded in blocks.
  // Calls on_block_row(number, position) before the first index of each row of blocks, if there are
  // several, and on_run(indices, count, position) for indices that are coded one after the other.
  template <class OnBlockRow, class OnRun>
  void take(const int32_t* indices, size_t count, OnBlockRow&& on_block_row, OnRun&& on_run) {
    if (scan_.in_blocks()) {
      for (; count; ++block_row_) {
        const size_t first = scan_.first_row(block_row_);
        const size_t length = (scan_.first_row(block_row_ + 1) - first) * scan_.width();
        if (scan_.block_rows() > 1) on_block_row(block_row_, position_);
        scan_.for_each_run(block_row_, [&](size_t row, size_t column, size_t run) {
          if (skips(first + row)) {
            skip();
          } else {
            on_run(indices + row * scan_.width() + column, run, position_);
          }
        });
        indices += length, count -= length;
      }
    } else if (skipped_rows_.empty()) {
      on_run(indices, count, position_);
    } else {
      while (count) {
        const size_t column = at_ % scan_.width(), row = at_ / scan_.width();
        const size_t run = std::min(count, scan_.width() - column);
        if (!skips(row)) {
          on_run(indices, run, position_);
        } else if (!column) {
          skip();
        }
        indices += run, count -= run, at_ += run;
      }
    }
  }

 private:
  bool skips(size_t row) const { return !skipped_rows_.empty() && skipped_rows_[row]; }

  void skip() {
    if (dependent_) position_.state = state_after_zeros(position_.state, scan_.width());
  }

  const Scan scan_;
  const bool dependent_;
  const std::vector<uint8_t> skipped_rows_;
  Position position_;
  size_t block_row_ = 0, at_ = 0;
};

}  // namespace nnguard
