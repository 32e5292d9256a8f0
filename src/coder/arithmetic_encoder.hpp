// The binary arithmetic encoder (docs/SPEC.md, 2.4.1).
//
// Law: the decoder reads from the bytes the bins that were put in, and only these bytes end so.

#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "contexts.hpp"

namespace nnguard {

class ArithmeticEncoder {
 public:
  [[gnu::always_inline]] void bin(Context& context, uint32_t symbol) {
    const Split split = context.split(range_);
    uint32_t shift;
    if (symbol == context.more_probable()) {
      shift = split.shift_after_more();
      range_ = split.after_more();
    } else {
      shift = split.shift_after_less();
      low_ += split.more();
      range_ = split.after_less();
    }
    context.update(symbol);
    move(shift);
  }

  // The same without a branch, for a bin that nothing could predict.
  [[gnu::always_inline]] void coin(Context& context, uint32_t symbol) {
    const Split split = context.split(range_);
    const uint32_t is_less = 0 - (symbol ^ context.more_probable());
    low_ += split.more() & is_less;
    range_ = split.after_more() ^ ((split.after_more() ^ split.after_less()) & is_less);
    context.update(symbol);
    const uint32_t shift = split.shift_after_more();
    move(shift ^ ((shift ^ split.shift_after_less()) & is_less));
  }

  // Several bypass bins, the most significant first; at most 32.
  void bypass(uint32_t bins, int count) {
    while (count > 0) {
      const int part = count < 16 ? count : 16;
      count -= part;
      const uint64_t value = bins >> count & ((1u << part) - 1);
      low_ = (low_ << part) + (256 + range_) * value;
      pending_ += part;
      if (pending_ >= kFlush) flush();
    }
  }

  // Begins a row of blocks; see SPEC 2.4.6.
  void narrow() { range_ = 0; }

  // Encodes the terminating bin, adds the stop bit, and returns all bytes.
  std::vector<uint8_t> finish() {
    low_ = (low_ + 256 + range_ - 2) | 1;
    const int padding = (8 - (pending_ + 9) % 8) % 8;
    low_ <<= padding;
    pending_ += padding;
    write((pending_ + 9) / 8, 0);
    bytes_.resize(size_);
    return std::move(bytes_);
  }

  // Bits that the interval has moved by: where its low end begins among those written.
  uint64_t position() const { return 8 * static_cast<uint64_t>(size_) + pending_; }

  // The nine bits of the low end from there on.
  uint32_t low() const { return static_cast<uint32_t>(low_ & 511); }

 private:
  static constexpr int kFlush = 32;

  [[gnu::always_inline]] void move(uint32_t shift) {
    low_ <<= shift;
    pending_ += static_cast<int>(shift);
    if (pending_ >= kFlush) flush();
  }

  void flush() { write(pending_ / 8, 9 + pending_ % 8); }

  // Moves bytes from the top of `low_` to the output, and leaves so many bits; the bit above them
  // is a carry into what was written before.
  void write(int count, int rest) {
    if (size_ + 8 > bytes_.size()) *this = with_room(std::move(*this));
    const uint64_t top = low_ >> rest;
    if (top >> 8 * count) carry();
    const uint64_t bytes = top << (64 - 8 * count);
    uint8_t* const next = bytes_.data() + size_;
    for (int i = 0; i < 8; ++i) next[i] = static_cast<uint8_t>(bytes >> (56 - 8 * i));
    size_ += static_cast<size_t>(count);
    low_ &= (uint64_t{1} << rest) - 1;
    pending_ = rest - 9;
  }

  void carry() {
    size_t at = size_;
    while (++bytes_[--at] == 0) {}
  }

  // By value, so that the address of an encoder never leaves a loop and it stays in registers.
  [[gnu::noinline, gnu::cold]] static ArithmeticEncoder with_room(ArithmeticEncoder self) {
    self.bytes_.resize(2 * self.size_ + 1024);
    return self;
  }

  std::vector<uint8_t> bytes_;  // with room behind those that are written
  size_t size_ = 0;             // of what is written
  uint64_t low_ = 0;            // nine bits of the interval's low end, above them those that wait
  uint32_t range_ = 510 - 256;  // less 256, which it never is below
  int pending_ = 0;             // bits above these nine
};

}  // namespace nnguard
