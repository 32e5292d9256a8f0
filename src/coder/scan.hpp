// The shape of a coded tensor and the order of its integers (docs/SPEC.md, 2.4.6).

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "contexts.hpp"

namespace nnguard {

// A tensor as a matrix: its first dimension, and all others joined.
class Scan {
 public:
  Scan(size_t rows, size_t width, int scan_order)
      : rows_(rows), width_(width),
        block_(scan_order && is_matrix() ? size_t{4} << scan_order : 0) {}

  size_t rows() const { return rows_; }
  size_t width() const { return width_; }

  // A single row or column has no blocks, and its rows are not skipped.
  bool is_matrix() const { return rows_ > 1 && width_ > 1; }
  bool in_blocks() const { return block_; }

  // Rows of blocks; one for a tensor that is not coded in blocks.
  size_t block_rows() const { return block_ ? (rows_ + block_ - 1) / block_ : 1; }
  size_t first_row(size_t block_row) const { return std::min(block_row * block_, rows_); }

  // Calls visit(row, first column, columns) for each run of integers of a row of blocks, in order;
  // rows count from the first of the row of blocks.
  template <class Visit>
  void for_each_run(size_t block_row, Visit&& visit) const {
    const size_t height = first_row(block_row + 1) - first_row(block_row);
    for (size_t column = 0; column < width_; column += block_)
      for (size_t row = 0; row < height; ++row)
        visit(row, column, std::min(block_, width_ - column));
  }

 private:
  size_t rows_, width_, block_;
};

// Where a row of blocks begins: what a unit's header says of it.
struct EntryPoint {
  uint64_t position;
  uint32_t value;
  int state;

  bool operator==(const EntryPoint& other) const {
    return position == other.position && value == other.value && state == other.state;
  }
};

// The state of the trellis after a run of zeros; zeros are even.
inline int state_after_zeros(int state, size_t zeros) {
  for (size_t step = zeros % 4; step > 0; --step) state = kNextTrellisState[state][0];
  return state;
}

}  // namespace nnguard
