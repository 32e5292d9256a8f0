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
    for (int i = 0; i < kStartStates; ++i)
      tracks_[i] = {first_fast(kStartState[i]), first_slow(kStartState[i])};
  }

  // Takes at most kAtOnce bins.
  void observe(const uint8_t* bins, size_t count) {
    // Candidates whose estimates have met stay together: from then on one stands for all of them.
    int leaders = 0, leader_of[kStartStates];
    Run run[kStartStates];
    for (int i = 0; i < kStartStates; ++i) {
      int at = 0;
      while (at < leaders && !(run[at].track == tracks_[i])) ++at;
      if (at == leaders) run[leaders++] = {tracks_[i], 0};
      leader_of[i] = at;
    }
    // Three at once are what 16 registers hold.
    int at = 0;
    for (; at + 3 <= leaders; at += 3) follow<3>(run + at, bins, count);
    if (leaders - at == 2) follow<2>(run + at, bins, count);
    if (leaders - at == 1) follow<1>(run + at, bins, count);
    for (int i = 0; i < kStartStates; ++i) {
      tracks_[i] = run[leader_of[i]].track;
      cost_[i] += run[leader_of[i]].cost;
    }
  }

  uint8_t best() const {
    uint8_t best = 0;
    uint64_t least = cost_[0];
    for (uint8_t i = 1; i < kStartStates; ++i)
      if (cost_[i] + kHandicap < least) best = i, least = cost_[i] + kHandicap;
    return best;
  }

  // A bin costs less than 2^18, so that the cost of so many bins fits 32 bits.
  static constexpr size_t kAtOnce = 4096;

 private:
  static constexpr uint64_t kHandicap = 3 << 15;  // stating another state than 0 takes three bits

  struct Track {
    uint16_t fast, slow;
    bool operator==(const Track& other) const { return fast == other.fast && slow == other.slow; }
  };
  struct Run {
    Track track;
    uint32_t cost;
  };

  template <int kCount>
  static void follow(Run* runs, const uint8_t* bins, size_t count) {
    uint32_t fast[kCount], slow[kCount], cost[kCount];
    for (int i = 0; i < kCount; ++i) {
      fast[i] = runs[i].track.fast, slow[i] = runs[i].track.slow, cost[i] = 0;
    }
    for (const uint8_t* const end = bins + count; bins != end; ++bins) {
      const size_t bin = *bins;
      for (int i = 0; i < kCount; ++i) {
        cost[i] += kCosts.entry[bin][biased_sum(fast[i], slow[i]) >> 4];
        fast[i] = (kTables.next.fast + bin)[fast[i]];
        slow[i] = (kTables.next.slow + bin)[slow[i]];
      }
    }
    for (int i = 0; i < kCount; ++i)
      runs[i] = {{static_cast<uint16_t>(fast[i]), static_cast<uint16_t>(slow[i])}, cost[i]};
  }

  Track tracks_[kStartStates];
  uint64_t cost_[kStartStates] = {};
};

class Search {
 public:
  Search(const Scan& scan, const Format& format, const std::vector<uint8_t>& skipped_rows)
      : format_(format), layout_(format.dependent, format.unary_length),
        walk_(scan, format, skipped_rows),
        at_once_(std::min(Candidates::kAtOnce, scan.rows() * scan.width())),
        candidates_(layout_.size), bins_(stride() * layout_.size), ends_(layout_.size) {
    clear();
  }

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
          while (length) {
            const size_t part = std::min(length, at_once_ - collected_);
            collect(run, part, position);
            run += part, length -= part;
            if (collected_ == at_once_) digest();
          }
        });
    digest();
  }

  std::vector<uint8_t> best() const {
    std::vector<uint8_t> best;
    for (const Candidates& each : candidates_) best.push_back(each.best());
    return best;
  }

 private:
  // Room for the bins of one context; not a power of two, so that those of different contexts do
  // not fight for lines of the cache.
  size_t stride() const { return at_once_ + 64; }

  void collect(const int32_t* run, size_t length, Position& position) {
    uint8_t* const bins = bins_.data();
    uint32_t* const ends = ends_.data();
    const auto collect_bin = [bins, ends](int context, uint32_t bin) {
      bins[ends[context]++] = static_cast<uint8_t>(bin);
    };
    // As in the stock encoder, indices of TCQ are not halved here.
    binarize(
        format_, layout_, run, length, position, [](int32_t index, int32_t) { return index; },
        collect_bin, collect_bin, [](uint32_t, int) {});
    collected_ += length;
  }

  void digest() {
    for (size_t i = 0; i < candidates_.size(); ++i) {
      const size_t begin = stride() * i, count = ends_[i] - begin;
      if (count) candidates_[i].observe(bins_.data() + begin, count);
    }
    clear();
  }

  void clear() {
    for (size_t i = 0; i < ends_.size(); ++i) ends_[i] = static_cast<uint32_t>(stride() * i);
    collected_ = 0;
  }

  const Format format_;
  const Layout layout_;
  IndexWalk walk_;
  const size_t at_once_;  // integers that are collected; each gives a context at most one bin
  std::vector<Candidates> candidates_;
  std::vector<uint8_t> bins_;   // stride() for each context
  std::vector<uint32_t> ends_;  // in `bins_`, of those that a context has now
  size_t collected_ = 0;
};

}  // namespace nnguard
