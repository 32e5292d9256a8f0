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
        bins_(first, size, source) {
    if (format.qp_bits) qp_ = sign_extended(bins_.bypass(format.qp_bits), format.qp_bits);
    if (format.row_flag && scan.is_matrix() && bins_.bypass()) read_row_flags();
    read_start_states();
    if (scan.block_rows() > 1) bins_.narrow();
    walk_ = fresh_walk();
  }

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
    ArithmeticDecoder bins = bins_;
    Walk walk = fresh_walk();
    if (scan_.block_rows() > 1) {
      if (entry.state && !format_.dependent)
        throw DamagedPayload("an entry point with a state", entry.position / 8);
      bins.enter(entry.position, entry.value);
      walk.state = entry.state;
    }
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
    ArithmeticDecoder bins = shared;  // a copy that stays in registers
    Context* const contexts = walk.contexts.data();
    int neighbor = walk.neighbor, state = walk.state;
    for (int32_t* const end = indices + count; indices != end; ++indices) {
      if (!bins.flag(contexts[kSigns * state + neighbor])) {
        *indices = 0;
        neighbor = 0;
        if (kDependent) state = kNextTrellisState[state][0];
        continue;
      }
      const uint32_t negative = bins.coin(contexts[layout_.sign + neighbor]);
      const uint32_t magnitude = decode_magnitude(bins, contexts, negative);
      neighbor = 2 - static_cast<int>(negative);
      *indices = index_of<kDependent>(magnitude, negative, state, bins);
      if (kDependent) state = kNextTrellisState[state][magnitude & 1];
    }
    shared = bins;
    walk.neighbor = neighbor;
    walk.state = state;
  }

  [[gnu::always_inline]] inline uint32_t decode_magnitude(ArithmeticDecoder& bins,
                                                          Context* contexts,
                                                          uint32_t negative) const {
    Context* const greater = contexts + layout_.greater + negative;
    const uint32_t unary_length = static_cast<uint32_t>(layout_.unary_length);
    for (uint32_t flag = 0; flag < unary_length; ++flag)
      if (!bins.flag(greater[2 * flag])) return 1 + flag;
    int prefix = 0;
    while (prefix < kPrefixes && bins.flag(contexts[layout_.prefix + prefix])) ++prefix;
    if (prefix == kPrefixes) too_large(bins);
    return static_cast<uint32_t>(layout_.unary_length) + (1u << prefix) + bins.bypass(prefix);
  }

  template <bool kDependent>
  static int32_t index_of(uint32_t magnitude, uint32_t negative, int state,
                          const ArithmeticDecoder& bins) {
    const int64_t index = kDependent ? 2 * int64_t{magnitude} - (state & 1) : int64_t{magnitude};
    if (index > std::numeric_limits<int32_t>::max() + int64_t{!kDependent && negative})
      too_large(bins);
    // Without a branch, as nothing predicts signs.
    const int64_t sign = -int64_t{negative};
    return static_cast<int32_t>((index ^ sign) - sign);
  }

  [[noreturn, gnu::noinline, gnu::cold]] static void too_large(ArithmeticDecoder bins) {
    throw DamagedPayload("an index beyond 32 bits", bins.position() / 8);
  }

  const Scan scan_;
  const Format format_;
  const Layout layout_;
  ArithmeticDecoder bins_;
  int qp_ = 0;
  std::vector<uint8_t> skipped_rows_, start_states_;
  Walk walk_;
  size_t at_ = 0;
};

}  // namespace nnguard
