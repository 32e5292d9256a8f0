// From the payload of a tensor to its indices (docs/SPEC.md, 2.4.4 and 2.4.5).

#pragma once

#include <limits>
#include <vector>

#include "arithmetic_decoder.hpp"
#include "binarization.hpp"
#include "scan.hpp"

namespace nnguard {

class TensorDecoder {
 public:
  TensorDecoder(Bytes first, size_t size, Source* source, const Scan& scan, const Format& format)
      : scan_(scan), format_(format), layout_(format.dependent, format.unary_length),
        payload_(first, size, source), bins_(payload_) {
    if (format.qp_bits) qp_ = sign_extended(bins_.bypass(format.qp_bits), format.qp_bits);
    if (format.row_flag && scan.is_matrix() && bins_.bypass()) read_row_flags();
    read_start_states();
    if (scan.block_rows() > 1) bins_.narrow();
    walk_ = fresh_walk();
  }

  TensorDecoder(const TensorDecoder&) = delete;
  TensorDecoder& operator=(const TensorDecoder&) = delete;

  int qp() const { return qp_; }
  const std::vector<uint8_t>& start_states() const { return start_states_; }

  // A flag for each row; empty where rows are not skipped.
  const std::vector<uint8_t>& skipped_rows() const { return skipped_rows_; }

  // Decodes the next indices of a tensor that is not coded in blocks.
  void decode(int32_t* indices, size_t count) {
    if (skipped_rows_.empty()) return decode_run(bins_, walk_, indices, count);
    while (count) {
      const size_t column = at_ % scan_.width(), row = at_ / scan_.width();
      const size_t run = std::min(count, scan_.width() - column);
      if (!skipped_rows_[row]) {
        decode_run(bins_, walk_, indices, run);
      } else {
        std::fill_n(indices, run, 0);
        if (!column) skip(walk_);
      }
      indices += run, count -= run, at_ += run;
    }
  }

  // Where the first row of blocks begins; the headers of units have all others.
  EntryPoint first_entry_point() const { return {bins_.position(), bins_.value(), 0}; }

  // Decodes a row of blocks, which stands on its own, and returns where the next one begins.
  EntryPoint decode_block_row(size_t block_row, const EntryPoint& entry, int32_t* indices) const {
    if (entry.state && !format_.dependent)
      throw DamagedPayload("an entry point with a state", entry.position / 8);
    Payload payload = payload_;
    ArithmeticDecoder bins = scan_.block_rows() > 1
                                 ? ArithmeticDecoder(payload, entry.position, entry.value)
                                 : ArithmeticDecoder(payload, bins_);
    Walk walk = fresh_walk();
    walk.state = entry.state;
    scan_.for_each_run(block_row, [&](size_t row, size_t column, size_t count) {
      int32_t* run = indices + row * scan_.width() + column;
      if (skipped_rows_.empty() || !skipped_rows_[scan_.first_row(block_row) + row]) {
        decode_run(bins, walk, run, count);
      } else {
        std::fill_n(run, count, 0);
        skip(walk);
      }
    });
    if (block_row + 1 == scan_.block_rows()) {
      bins.finish();
    } else {
      bins.narrow();
    }
    return {bins.position(), bins.value(), walk.state};
  }

  // Checks that the payload ends where the last index did.
  void finish() { bins_.finish(); }

 private:
  // What one integer leaves for the next, besides the arithmetic decoder.
  struct Walk : Position {
    std::vector<Context> contexts;
  };

  static int sign_extended(uint32_t bits, int count) {
    return static_cast<int>(bits) - (bits >> (count - 1) ? 1 << count : 0);
  }

  void read_row_flags() {
    Context context;
    for (size_t row = 0; row < scan_.rows(); ++row)
      skipped_rows_.push_back(static_cast<uint8_t>(bins_.bin(context)));
  }

  void read_start_states() {
    Context context;
    start_states_.resize(layout_.size);
    for (uint8_t& start : start_states_)
      if (bins_.bin(context)) start = static_cast<uint8_t>(1 + bins_.bypass(3));
  }

  Walk fresh_walk() const {
    Walk walk;
    walk.contexts.reserve(start_states_.size());
    for (uint8_t start : start_states_) walk.contexts.emplace_back(start);
    return walk;
  }

  void skip(Walk& walk) const {
    if (format_.dependent) walk.state = state_after_zeros(walk.state, scan_.width());
  }

  void decode_run(ArithmeticDecoder& bins, Walk& walk, int32_t* indices, size_t count) const {
    if (format_.dependent) {
      decode_run<true>(bins, walk, indices, count);
    } else {
      decode_run<false>(bins, walk, indices, count);
    }
  }

  template <bool kDependent>
  void decode_run(ArithmeticDecoder& shared, Walk& walk, int32_t* indices, size_t count) const {
    // Copies that stay in registers.
    ArithmeticDecoder bins = shared;
    const Layout layout = layout_;
    Context* const contexts = walk.contexts.data();
    int neighbor = walk.neighbor, state = walk.state;
    for (int32_t* const end = indices + count; indices != end; ++indices) {
      if (!bins.flag(contexts[kSigns * state + neighbor])) {
        *indices = 0;
        neighbor = 0;
        if (kDependent) state = kNextTrellisState[state][0];
        continue;
      }
      const uint32_t negative = bins.coin(contexts[layout.sign + neighbor]);
      const uint32_t magnitude =
          decode_magnitude(layout, bins, contexts, negative, kDependent ? state : -1);
      neighbor = 2 - static_cast<int>(negative);
      const uint32_t index = kDependent ? 2 * magnitude - (state & 1) : magnitude;
      *indices = static_cast<int32_t>((index ^ (0 - negative)) + negative);
      if (kDependent) state = kNextTrellisState[state][magnitude & 1];
    }
    shared = bins;
    walk.neighbor = neighbor;
    walk.state = state;
  }

  // Of an integer that is not zero, in a state of the trellis, or -1 for none.
  [[gnu::always_inline]] static inline uint32_t decode_magnitude(const Layout& layout,
                                                                 ArithmeticDecoder& bins,
                                                                 Context* contexts,
                                                                 uint32_t negative, int state) {
    Context* const greater = contexts + layout.greater + negative;
    Context* const end = greater + 2 * layout.unary_length;
    for (Context* flag = greater; flag != end; flag += 2)
      if (!bins.flag(*flag)) return 1 + static_cast<uint32_t>(flag - greater) / 2;
    int prefix = 0;
    while (prefix < kPrefixes && bins.flag(contexts[layout.prefix + prefix])) ++prefix;
    if (prefix == kPrefixes) too_large(bins);
    const uint32_t magnitude =
        static_cast<uint32_t>(layout.unary_length) + (1u << prefix) + bins.bypass(prefix);
    constexpr uint32_t kLargest = std::numeric_limits<int32_t>::max();
    const bool dependent = state >= 0;
    if (magnitude > (dependent ? (kLargest + (state & 1)) / 2 : kLargest + negative))
      too_large(bins);
    return magnitude;
  }

  [[noreturn, gnu::noinline, gnu::cold]] static void too_large(ArithmeticDecoder bins) {
    throw DamagedPayload("an index beyond 32 bits", bins.position() / 8);
  }

  const Scan scan_;
  const Format format_;
  const Layout layout_;
  Payload payload_;
  ArithmeticDecoder bins_;
  int qp_ = 0;
  std::vector<uint8_t> skipped_rows_, start_states_;
  Walk walk_;
  size_t at_ = 0;
};

}  // namespace nnguard
