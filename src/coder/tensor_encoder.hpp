// From the indices of a tensor to its payload (docs/SPEC.md, 2.4.4 and 2.4.5).
//
// Law: what TensorDecoder gives - quantization parameter, start states, rows, indices - encodes to
// the payload that it came from.

#pragma once

#include <vector>

#include "arithmetic_encoder.hpp"
#include "binarization.hpp"
#include "scan.hpp"

namespace nnguard {

class TensorEncoder {
 public:
  // `skipped_rows` is a flag for each row, or empty where rows are not skipped.
  TensorEncoder(const Scan& scan, const Format& format, int qp,
                std::vector<uint8_t> start_states, const std::vector<uint8_t>& skipped_rows)
      : format_(format), layout_(format.dependent, format.unary_length),
        start_states_(std::move(start_states)), walk_(scan, format, skipped_rows) {
    if (format.qp_bits)
      bins_.bypass(static_cast<uint32_t>(qp) & ((1u << format.qp_bits) - 1), format.qp_bits);
    if (format.row_flag && scan.is_matrix()) write_row_flags(skipped_rows);
    write_start_states();
    start_contexts();
  }

  // Encodes the next indices; see IndexWalk::take.
  void encode(const int32_t* indices, size_t count) {
    walk_.take(
        indices, count,
        [this](size_t block_row, Position& position) { begin_block_row(block_row, position); },
        [this](const int32_t* run, size_t length, Position& position) {
          encode_run(run, length, position);
        });
  }

  std::vector<uint8_t> finish() {
    std::vector<uint8_t> payload = bins_.finish();
    for (EntryPoint& point : entry_points_)
      point.value = (window(payload, point.position) - point.value) & 511;
    return payload;
  }

  // Where each row of blocks begins, if there are several; complete once the payload is.
  const std::vector<EntryPoint>& entry_points() const { return entry_points_; }

 private:
  void write_row_flags(const std::vector<uint8_t>& skipped_rows) {
    bins_.bypass(!skipped_rows.empty(), 1);
    Context context;
    for (uint8_t skipped : skipped_rows) bins_.bin(context, skipped);
  }

  void write_start_states() {
    Context context;
    for (uint8_t start : start_states_) {
      bins_.bin(context, start > 0);
      if (start) bins_.bypass(start - 1u, 3);
    }
  }

  void start_contexts() {
    contexts_.clear();
    for (uint8_t start : start_states_) contexts_.emplace_back(start);
  }

  void begin_block_row(size_t block_row, Position& position) {
    bins_.narrow();
    if (block_row) start_contexts();
    position.neighbor = 0;
    // Less its value, which is known once all that follows is written.
    entry_points_.push_back({bins_.position(), bins_.low(), position.state});
  }

  void encode_run(const int32_t* run, size_t length, Position& position) {
    ArithmeticEncoder bins = std::move(bins_);  // stays in registers
    Context* const contexts = contexts_.data();
    binarize(
        format_, layout_, run, length, position,
        [](int32_t, int32_t integer) { return integer; },
        [&](int context, uint32_t bin) { bins.bin(contexts[context], bin); },
        [&](int context, uint32_t bin) { bins.coin(contexts[context], bin); },
        [&](uint32_t bits, int count) { bins.bypass(bits, count); });
    bins_ = std::move(bins);
  }

  // Nine bits of a payload.
  static uint32_t window(const std::vector<uint8_t>& payload, uint64_t position) {
    const auto byte = [&](uint64_t at) {
      return at < payload.size() ? uint32_t{payload[at]} : 0;
    };
    return (byte(position / 8) << 8 | byte(position / 8 + 1)) >> (7 - position % 8) & 511;
  }

  const Format format_;
  const Layout layout_;
  const std::vector<uint8_t> start_states_;
  IndexWalk walk_;
  std::vector<Context> contexts_;
  ArithmeticEncoder bins_;
  std::vector<EntryPoint> entry_points_;
};

}  // namespace nnguard
