// The binary arithmetic decoder (docs/SPEC.md, 2.4.1), over a payload of known length.
//
// Law: a bit behind the payload is never made up. Whoever needs one gets a DamagedPayload.

#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>

#include "contexts.hpp"

namespace nnguard {

// What makes a payload unreadable, and where: in bytes from its beginning.
class DamagedPayload : public std::runtime_error {
 public:
  DamagedPayload(const char* what, size_t offset) : std::runtime_error(what), offset(offset) {}
  const size_t offset;
};

// A run of bytes.
struct Bytes {
  const uint8_t* data;
  size_t size;
};

// Gives the parts of a payload that is not in memory as a whole. Each lives until the next that is
// not empty.
class Source {
 public:
  virtual ~Source() = default;
  virtual Bytes next() = 0;  // empty at the end
};

class ArithmeticDecoder {
 public:
  ArithmeticDecoder() = default;

  // `size` is that of the whole payload; without a source `first` is all of it.
  ArithmeticDecoder(Bytes first, size_t size, Source* source)
      : begin_(first.data), next_(first.data), end_(first.data + first.size), size_(size),
        source_(source) {
    refill();
    if (value() >= 256 + range_) throw DamagedPayload("first bits that no encoder writes", 0);
  }

  [[gnu::always_inline]] uint32_t bin(Context& context) {
    const uint32_t symbol = symbol_of(context);
    context.update(symbol);
    return symbol;
  }

  // The same without a branch, for a bin that nothing could predict.
  [[gnu::always_inline]] uint32_t coin(Context& context) {
    const Range& range = kTables.range.entry[context.row() + range_];
    const uint32_t less = range.less, more = 256 + range_ - less;
    const uint64_t bound = static_cast<uint64_t>(more) << kPoint;
    const uint32_t one_bit = 1 ^ more >> 8;
    const uint64_t below = window_ - bound, is_more = 0 - (below >> 63);
    const uint32_t mask = static_cast<uint32_t>(is_more);
    const uint32_t symbol = context.more_probable() ^ 1 ^ (mask & 1);
    window_ = below + (bound & is_more);
    range_ = range.after_less ^ ((range.after_less ^ range.after_more) & mask);
    advance(static_cast<int>(range.shift ^ ((range.shift ^ one_bit) & mask)));
    context.update(symbol);
    return symbol;
  }

  // The same for who goes two ways by the bin: then the context does not wait for its value.
  [[gnu::always_inline]] bool flag(Context& context) {
    if (symbol_of(context)) {
      context.update(1);
      return true;
    }
    context.update(0);
    return false;
  }

  uint32_t bypass() {
    advance(1);
    const uint64_t bound = static_cast<uint64_t>(256 + range_) << kPoint;
    const uint64_t below = window_ - bound;  // without a branch, which nothing could predict
    const uint64_t zero = 0 - (below >> 63);
    window_ = below + (bound & zero);
    return static_cast<uint32_t>(1 + zero);
  }

  // Several bypass bins, the most significant first; at most 32.
  uint32_t bypass(int count) {
    uint32_t bins = 0;
    while (count-- > 0) bins = bins << 1 | bypass();
    return bins;
  }

  // Decodes the terminating bin and checks that the payload ends as an encoder ends it.
  void finish() {
    if (window_ < static_cast<uint64_t>(254 + range_) << kPoint)
      throw DamagedPayload("no end where the last integer ends", position() / 8);
    const uint64_t stop = position() + 8;
    if (stop / 8 + 1 != size_) throw DamagedPayload("bytes behind the end", stop / 8 + 1);
    if (static_cast<uint8_t>(end_[-1] << stop % 8) != 0x80)
      throw DamagedPayload("wrong stop bits", stop / 8);
  }

  // Bits that the window has moved by: where it begins in the payload.
  uint64_t position() const {
    return 8 * (before_ + static_cast<uint64_t>(next_ - begin_)) - available_ - 9;
  }

  // The window, less the low end of the interval: 8 bits where the range is 256.
  uint32_t value() const { return static_cast<uint32_t>(window_ >> kPoint); }

  // Begins a row of blocks where the window is; see SPEC 2.4.6.
  void narrow() {
    range_ = 0;
    if (value() >= 256) throw DamagedPayload("a row of blocks begins out of range", position() / 8);
  }

  // Begins a row of blocks at an entry point; the payload is in memory as a whole.
  void enter(uint64_t position, uint32_t value) {
    if (position > 8 * size_ || position + 9 > 8 * size_ || value > 255)
      throw DamagedPayload("entry point beyond the payload", size_);
    next_ = begin_ + (position + 9) / 8;
    available_ = 0;
    window_ = static_cast<uint64_t>(value) << kPoint;
    range_ = 0;
    const int used = static_cast<int>((position + 9) % 8);
    if (used) {
      available_ = 8 - used;
      window_ |= static_cast<uint64_t>(*next_++ & (0xFF >> used)) << (kPoint - available_);
    }
  }

 private:
  [[gnu::always_inline]] uint32_t symbol_of(const Context& context) {
    const Range& range = kTables.range.entry[context.row() + range_];
    const uint32_t less = range.less, more = 256 + range_ - less;
    const uint64_t bound = static_cast<uint64_t>(more) << kPoint;
    uint32_t symbol = context.more_probable();
    if (window_ < bound) {
      range_ = range.after_more;
      advance(1 ^ static_cast<int>(more >> 8));
    } else {
      window_ -= bound;
      symbol ^= 1;
      range_ = range.after_less;
      advance(range.shift);
    }
    return symbol;
  }

  // The window's nine bits stand from here upwards, one more bit is left for doubling.
  static constexpr int kPoint = 54;

  void advance(int shift) {
    window_ <<= shift;
    available_ -= shift;
    if (available_ < 0) refill();
  }

  void refill() {
    if (end_ - next_ >= 4) {
      const uint32_t word = static_cast<uint32_t>(next_[0]) << 24 |
                            static_cast<uint32_t>(next_[1]) << 16 |
                            static_cast<uint32_t>(next_[2]) << 8 | next_[3];
      window_ |= static_cast<uint64_t>(word) << (kPoint - 32 - available_);
      next_ += 4;
      available_ += 32;
    } else {
      *this = refilled_bytewise(*this);
    }
  }

  // By value, so that the address of a decoder never leaves a loop and it stays in registers.
  [[gnu::noinline, gnu::cold]] static ArithmeticDecoder refilled_bytewise(ArithmeticDecoder self) {
    do {
      while (self.next_ < self.end_ && self.available_ < 24) {
        self.window_ |= static_cast<uint64_t>(*self.next_++) << (kPoint - 8 - self.available_);
        self.available_ += 8;
      }
    } while (self.next_ == self.end_ && self.take_next_part());
    if (self.available_ < 0) throw DamagedPayload("the payload ends too early", self.size_);
    return self;
  }

  bool take_next_part() {
    if (!source_) return false;
    const Bytes part = source_->next();
    if (!part.size) {
      source_ = nullptr;  // the last byte stays where it is, for the stop bit
      return false;
    }
    before_ += static_cast<uint64_t>(end_ - begin_);
    begin_ = next_ = part.data;
    end_ = begin_ + part.size;
    return true;
  }

  const uint8_t *begin_ = nullptr, *next_ = nullptr, *end_ = nullptr;
  uint64_t window_ = 0;
  uint32_t range_ = 510 - 256;  // less 256, which it never is below
  int available_ = -9;  // bits of the payload below the window
  uint64_t size_ = 0, before_ = 0;  // bytes of the payload, and of the parts before this one
  Source* source_ = nullptr;
};

}  // namespace nnguard
