// The search for start states: "parameter optimization" of the stock encoder (docs/SPEC.md, 2.4.8).
//
// For each context, every start state is tried on all of its bins, and the cheapest is taken. The
// result is stated in the payload, so that only who wants the stock encoder's bytes needs the same
// search.

#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <vector>

#include "binarization.hpp"
#include "contexts.hpp"

namespace nnguard {

// Bits that a bin takes, times 2^15, by the sum of the estimates in steps of 8.
struct CostTable {
  static constexpr int kEntries = 1024;
  uint32_t entry[2][kEntries];

  CostTable() {
    for (int at = 0; at < kEntries; ++at) {
      const bool one = at >= kEntries / 2;  // the more probable symbol
      const double distance = one ? at - 511.5 : std::min(512 - at, 511) + 0.5;
      const double less = 32768 + 400.79895 * distance;
      const double more = -32768 * std::log2(1 - std::exp2(-less / 32768));
      entry[one][at] = static_cast<uint32_t>(std::lround(more));
      entry[!one][at] = static_cast<uint32_t>(std::lround(less));
    }
  }
};

inline const CostTable kCosts;

// All start states of one context on the bins that it has seen.
class Candidates {
 public:
  Candidates() { restart(); }

  // Begins a row of blocks: estimates start again, costs go on.
  void restart() {
    for (int i = 0; i < kStartStates; ++i) {
      fast_[i] = first_fast(kStartState[i]);
      slow_[i] = first_slow(kStartState[i]);
    }
  }

  void observe(const uint8_t* bins, size_t count) {
    for (const uint8_t* const end = bins + count; bins != end; ++bins) {
      for (int i = 0; i < kStartStates; ++i) {
        cost_[i] += kCosts.entry[*bins][biased_sum(fast_[i], slow_[i]) >> 4];
        fast_[i] = kNext.fast[fast_[i] + *bins];
        slow_[i] = kNext.slow[slow_[i] + *bins];
      }
    }
  }

  uint8_t best() const {
    uint8_t best = 0;
    uint64_t least = cost_[0];
    for (uint8_t i = 1; i < kStartStates; ++i)
      if (cost_[i] + kHandicap < least) best = i, least = cost_[i] + kHandicap;
    return best;
  }

 private:
  static constexpr uint64_t kHandicap = 3 << 15;  // stating another state than 0 takes three bits

  uint16_t fast_[kStartStates], slow_[kStartStates];
  uint64_t cost_[kStartStates] = {};
};

class Search {
 public:
  Search(const Scan& scan, const Format& format, const std::vector<uint8_t>& skipped_rows)
      : format_(format), layout_(format.dependent, format.unary_length),
        walk_(scan, format, skipped_rows), candidates_(layout_.size), bins_(layout_.size) {}

  // Looks at the next indices; see IndexWalk::take.
  void observe(const int32_t* indices, size_t count) {
    walk_.take(
        indices, count,
        [this](size_t, Position&) {
          // As in the stock encoder, the neighbor stays what it was.
          digest();
          for (Candidates& each : candidates_) each.restart();
        },
        [this](const int32_t* run, size_t length, Position& position) {
          for (; length; run += kAtOnce < length ? kAtOnce : length,
                         length -= kAtOnce < length ? kAtOnce : length) {
            collect(run, std::min(length, kAtOnce), position);
            digest();
          }
        });
  }

  std::vector<uint8_t> best() const {
    std::vector<uint8_t> best;
    for (const Candidates& each : candidates_) best.push_back(each.best());
    return best;
  }

 private:
  static constexpr size_t kAtOnce = 1 << 14;

  void collect(const int32_t* run, size_t length, Position& position) {
    // As in the stock encoder, indices of TCQ are not halved here.
    binarize(
        format_, layout_, run, length, position, [](int32_t index, int32_t) { return index; },
        [this](int context, uint32_t bin) { bins_[context].push_back(static_cast<uint8_t>(bin)); },
        [](uint32_t, int) {});
  }

  void digest() {
    for (size_t i = 0; i < bins_.size(); ++i) {
      candidates_[i].observe(bins_[i].data(), bins_[i].size());
      bins_[i].clear();
    }
  }

  const Format format_;
  const Layout layout_;
  IndexWalk walk_;
  std::vector<Candidates> candidates_;
  std::vector<std::vector<uint8_t>> bins_;
};

}  // namespace nnguard
