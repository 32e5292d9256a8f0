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

// A payload from its beginning to its end, as it moves into a window.
//
// The bits of a window end in a one, with nothing but zeros below. `kPoint` says where in it the
// value of nine bits stands; one more bit is left above for doubling.
class Payload {
 public:
  static constexpr int kPoint = 54;

  // `size` is that of the whole payload; without a source `first` is all of it.
  Payload(Bytes first, size_t size, Source* source)
      : begin_(first.data), next_(first.data), end_(first.data + first.size), size_(size),
        source_(source) {}

  // A window at the first bit.
  uint64_t open() { return fill_bytewise(uint64_t{1} << (kPoint + 8)); }

  // A window at some bit, of which the value is known; for a payload in memory as a whole.
  uint64_t open_at(uint64_t position, uint32_t value) {
    if (position > 8 * size_ || position + 9 > 8 * size_ || value > 255)
      throw DamagedPayload("entry point beyond the payload", size_);
    const int used = static_cast<int>((position + 9) % 8);
    next_ = begin_ + (position + 9) / 8;
    const uint64_t rest = used ? 2 * (*next_++ & (0xFFu >> used)) + 1 : 256;
    return static_cast<uint64_t>(value) << kPoint | rest << (kPoint - 9 + used);
  }

  // Fills a window whose low half is empty.
  [[gnu::always_inline]] uint64_t fill(uint64_t window) {
    if (end_ - next_ < 4) return fill_bytewise(window);
    const uint64_t word = static_cast<uint64_t>(next_[0]) << 24 |
                          static_cast<uint64_t>(next_[1]) << 16 |
                          static_cast<uint64_t>(next_[2]) << 8 | next_[3];
    next_ += 4;
    const int mark = __builtin_ctzll(window);
    return (window ^ uint64_t{1} << mark) | (2 * word + 1) << (mark - 32);
  }

  // Where in the payload a window begins, in bits.
  uint64_t position_of(uint64_t window) const {
    const uint64_t taken = 8 * (before_ + static_cast<uint64_t>(next_ - begin_));
    return taken + static_cast<uint64_t>(__builtin_ctzll(window)) - (kPoint + 8);
  }

  // Checks that an encoder that stopped at this bit wrote what follows.
  void check_end(uint64_t stop) const {
    if (stop / 8 + 1 != size_) throw DamagedPayload("bytes behind the end", stop / 8 + 1);
    if (static_cast<uint8_t>(end_[-1] << stop % 8) != 0x80)
      throw DamagedPayload("wrong stop bits", stop / 8);
  }

 private:
  [[gnu::noinline, gnu::cold]] uint64_t fill_bytewise(uint64_t window) {
    int mark = __builtin_ctzll(window);
    window ^= uint64_t{1} << mark;
    do {
      for (; next_ < end_ && mark >= 32; mark -= 8)
        window |= static_cast<uint64_t>(*next_++) << (mark - 7);
    } while (next_ == end_ && take_next_part());
    if (mark >= kPoint) throw DamagedPayload("the payload ends too early", size_);
    return window | uint64_t{1} << mark;
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

  const uint8_t *begin_, *next_, *end_;
  uint64_t size_, before_ = 0;  // bytes of the payload, and of the parts before this one
  Source* source_;
};

// Three words and no more, so that a copy can stay in registers.
class ArithmeticDecoder {
 public:
  // The payload has to outlive the decoder.
  explicit ArithmeticDecoder(Payload& payload) : payload_(&payload), window_(payload.open()) {
    if (value() >= 256 + range_) throw DamagedPayload("first bits that no encoder writes", 0);
  }

  // At an entry point, where a row of blocks begins.
  ArithmeticDecoder(Payload& payload, uint64_t position, uint32_t value)
      : payload_(&payload), window_(payload.open_at(position, value)), range_(0) {}

  // The same decoder over a copy of its payload.
  ArithmeticDecoder(Payload& payload, const ArithmeticDecoder& other)
      : payload_(&payload), window_(other.window_), range_(other.range_) {}

  [[gnu::always_inline]] uint32_t bin(Context& context) {
    const uint32_t symbol = symbol_of(context);
    context.update(symbol);
    return symbol;
  }

  // The same without a branch, for a bin that nothing could predict.
  [[gnu::always_inline]] uint32_t coin(Context& context) {
    const Split split = context.split(range_);
    const uint64_t bound = static_cast<uint64_t>(split.more()) << Payload::kPoint;
    const uint64_t below = window_ - bound, is_more = 0 - (below >> 63);
    const uint32_t mask = static_cast<uint32_t>(is_more);
    const uint32_t symbol = context.more_probable() ^ 1 ^ (mask & 1);
    window_ = below + (bound & is_more);
    range_ = split.after_less() ^ ((split.after_less() ^ split.after_more()) & mask);
    const uint32_t shift = split.shift_after_less();
    move(shift ^ ((shift ^ split.shift_after_more()) & mask));
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
    move(1);
    const uint64_t bound = (256 + range_) << Payload::kPoint;
    const uint64_t below = window_ - bound;  // without a branch, which nothing could predict
    const uint64_t zero = 0 - (below >> 63);
    window_ = below + (bound & zero);
    return static_cast<uint32_t>(1 + zero);
  }

  // Several bypass bins, the most significant first; at most 32.
  uint32_t bypass(int count) {
    uint32_t bins = 0;
    while (count > 0) {
      // A window with a bit in its low half has 22 bits or more behind the value: one division
      // finds as many bins as it has bits. A few are faster one by one.
      const int part = count < kDivided ? count : kDivided;
      if (part < 4 || !static_cast<uint32_t>(window_)) {
        bins = bins << 1 | bypass();
        --count;
        continue;
      }
      const int point = Payload::kPoint - part;
      const uint32_t range = static_cast<uint32_t>(256 + range_);
      const uint32_t found = static_cast<uint32_t>(window_ >> point) / range;
      window_ -= static_cast<uint64_t>(found * range) << point;
      move(static_cast<uint32_t>(part));
      bins = bins << part | found;
      count -= part;
    }
    return bins;
  }

  // Decodes the terminating bin and checks that the payload ends as an encoder ends it.
  void finish() const {
    if (window_ < (254 + range_) << Payload::kPoint)
      throw DamagedPayload("no end where the last integer ends", position() / 8);
    payload_->check_end(position() + 8);
  }

  // Where the value begins in the payload, in bits.
  uint64_t position() const { return payload_->position_of(window_); }

  // Nine bits of the payload, less the low end of the interval: 8 bits where the range is 256.
  uint32_t value() const { return static_cast<uint32_t>(window_ >> Payload::kPoint); }

  // Begins a row of blocks where the decoder is; see SPEC 2.4.6.
  void narrow() {
    range_ = 0;
    if (value() >= 256) throw DamagedPayload("a row of blocks begins out of range", position() / 8);
  }

 private:
  [[gnu::always_inline]] uint32_t symbol_of(const Context& context) {
    const Split split = context.split(range_);
    const uint64_t bound = static_cast<uint64_t>(split.more()) << Payload::kPoint;
    const uint32_t symbol = context.more_probable();
    if (window_ < bound) {
      range_ = split.after_more();
      move(split.shift_after_more());
      return symbol;
    }
    window_ -= bound;
    range_ = split.after_less();
    move(split.shift_after_less());
    return symbol ^ 1;
  }

  [[gnu::always_inline]] void move(uint32_t shift) {
    window_ <<= shift;
    if (!static_cast<uint32_t>(window_)) window_ = payload_->fill(window_);
  }

  static constexpr int kDivided = 16;  // bypass bins, at most: 9 + 16 bits are divided

  Payload* payload_;
  uint64_t window_;
  uint64_t range_ = 510 - 256;  // less 256, which it never is below
};

}  // namespace nnguard
