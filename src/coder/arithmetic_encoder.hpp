// The binary arithmetic encoder (docs/SPEC.md, 2.4.1).
//
// Law: the decoder reads from the bytes the bins that were put in, and only these bytes end so.

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "contexts.hpp"

namespace nnguard {

// What the less probable symbol takes, by row and range.
struct LpsTable {
  uint8_t entry[kRows * 256]{};

  constexpr LpsTable() {
    for (uint32_t row = 0; row < kRows; ++row)
      for (uint32_t low = 0; low < 256; ++low)
        entry[row << 8 | low] = static_cast<uint8_t>(lps_range(row, 256 + low));
  }
};

inline constexpr LpsTable kLpsTable;

class ArithmeticEncoder {
 public:
  void bin(Context& context, uint32_t symbol) {
    const uint32_t lps = kLpsTable.entry[context.row() | (range_ & 255)];
    range_ -= lps;
    int shift;
    if (symbol == context.more_probable()) {
      shift = range_ < 256;
      range_ <<= shift;
    } else {
      shift = kShift.entry[lps];
      low_ += range_;
      range_ = lps << shift;
    }
    low_ <<= shift;
    pending_ += shift;
    if (pending_ >= kFlush) flush();
    context.update(symbol);
  }

  // Several bypass bins, the most significant first; at most 32.
  void bypass(uint32_t bins, int count) {
    while (count > 0) {
      const int part = count < 16 ? count : 16;
      count -= part;
      low_ = (low_ << part) + static_cast<uint64_t>(range_) * (bins >> count & ((1u << part) - 1));
      pending_ += part;
      if (pending_ >= kFlush) flush();
    }
  }

  // Begins a row of blocks; see SPEC 2.4.6.
  void narrow() { range_ = 256; }

  // Encodes the terminating bin, adds the stop bit, and returns all bytes.
  std::vector<uint8_t> finish() {
    low_ = (low_ + range_ - 2) | 1;
    const int padding = (8 - (pending_ + 9) % 8) % 8;
    low_ <<= padding;
    pending_ += padding;
    write((pending_ + 9) / 8, 0);
    return std::move(bytes_);
  }

  // Bits that the interval has moved by: where its low end begins among those written.
  uint64_t position() const { return 8 * static_cast<uint64_t>(bytes_.size()) + pending_; }

  // The nine bits of the low end from there on.
  uint32_t low() const { return static_cast<uint32_t>(low_ & 511); }

 private:
  static constexpr int kFlush = 32;

  void flush() { write(pending_ / 8, 9 + pending_ % 8); }

  // Moves bytes from the top of `low_` to the output, and leaves so many bits; the bit above them
  // is a carry into what was written before.
  void write(int count, int rest) {
    const uint64_t top = low_ >> rest;
    if (top >> 8 * count) carry();
    for (int at = count - 1; at >= 0; --at) bytes_.push_back(static_cast<uint8_t>(top >> 8 * at));
    low_ &= (uint64_t{1} << rest) - 1;
    pending_ = rest - 9;
  }

  void carry() {
    size_t at = bytes_.size();
    while (++bytes_[--at] == 0) {}
  }

  std::vector<uint8_t> bytes_;
  uint64_t low_ = 0;  // nine bits of the interval's low end, above them those that wait
  uint32_t range_ = 510;
  int pending_ = 0;  // bits above these nine
};

}  // namespace nnguard
