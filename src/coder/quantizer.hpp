// From weights to indices: uniform (URQ) and trellis-coded (TCQ) quantization.
//
// TCQ is a Viterbi search: of all paths through the trellis, that of the least squared error. Which
// of the ways into a state is best is kept in two bits, 16 for the eight states of a weight. Costs
// are sums in double precision in the order of the weights, so that indices are the stock encoder's.

#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <vector>

#include "contexts.hpp"
#include "scan.hpp"

namespace nnguard {

inline void quantize_uniform(const float* weights, size_t count, float step, int32_t* indices) {
  const float scale = 1.0f / step;
  for (size_t i = 0; i < count; ++i) {
    // Halves go away from zero. The difference is exact: a float without a fraction is its own.
    const float scaled = scale * weights[i];
    const int32_t whole = static_cast<int32_t>(scaled);
    const float fraction = scaled - static_cast<float>(whole);
    indices[i] = whole + (fraction >= 0.5f) - (fraction <= -0.5f);
  }
}

// The Viterbi search, while weights come in the order of coding: first all of them forwards, then
// all of them backwards.
class Trellis {
 public:
  Trellis(float step, size_t weights) : scale_(1.0 / static_cast<double>(step)), ways_(weights) {
    for (int state = 1; state < kTrellisStates; ++state)
      cost_[state] = 0.5 * std::numeric_limits<double>::max();
  }

  void forward(const float* weights, size_t count) {
    Costs cost = cost_;
    for (size_t i = 0; i < count; ++i) ways_[at_++] = step_forward(weights[i], cost);
    cost_ = cost;
  }

  void backward(const float* weights, size_t count, int32_t* indices) {
    if (state_ < 0) state_ = best_state();
    while (count--) indices[count] = step_back(weights[count]);
  }

  // Weights that are still to be gone back over.
  size_t left() const { return at_; }

 private:
  using Costs = std::array<double, kTrellisStates>;

  // The states from which an even and an odd integer lead into a state. Zero is even.
  struct Ways {
    int even, odd;
  };
  static constexpr Ways kWays[kTrellisStates] = {{0, 4}, {2, 6}, {4, 0}, {6, 2},
                                                 {7, 3}, {5, 1}, {3, 7}, {1, 5}};
  enum : unsigned { kEven, kZero, kOdd };

  // Four magnitudes that follow each other have different last two bits, which tell the state's
  // quantizer and the parity of the integer.
  static constexpr int even_bits(int state) { return 3 * (state & 1); }
  static constexpr int odd_bits(int state) { return 2 - (state & 1); }

  // A weight in steps, and the first of four magnitudes about it.
  struct Scaled {
    double magnitude;
    int32_t first;
  };

  Scaled scaled(float weight) const {
    const double magnitude = scale_ * static_cast<double>(weight) * (weight < 0 ? -1.0 : 1.0);
    return {magnitude, std::max(1, static_cast<int32_t>(magnitude) - 1)};
  }

  uint16_t step_forward(float weight, Costs& cost) const {
    const Scaled near = scaled(weight);
    double error[4];
    for (int i = 0; i < 4; ++i) {
      const double difference = near.magnitude - (near.first + i);
      error[(near.first + i) & 3] = difference * difference;
    }
    const double error_of_zero = near.magnitude * near.magnitude;
    Costs next;
    unsigned ways = 0;
    for (int state = 0; state < kTrellisStates; ++state) {
      const auto [from_even, from_odd] = kWays[state];
      const double even = cost[from_even] + error[even_bits(from_even)];
      const double zero = cost[from_even] + error_of_zero;
      const double odd = cost[from_odd] + error[odd_bits(from_odd)];
      // Of equal costs, the lower state before wins, and an even integer over zero.
      const double least_even = zero < even ? zero : even;
      const bool odd_wins = from_odd < from_even ? !(least_even < odd) : odd < least_even;
      next[state] = odd_wins ? odd : least_even;
      ways |= (odd_wins ? kOdd : zero < even ? kZero : kEven) << 2 * state;
    }
    cost = next;
    return static_cast<uint16_t>(ways);
  }

  int best_state() const {
    return static_cast<int>(std::min_element(cost_.begin(), cost_.end()) - cost_.begin());
  }

  int32_t step_back(float weight) {
    const unsigned way = ways_[--at_] >> 2 * state_ & 3;
    const int before = way == kOdd ? kWays[state_].odd : kWays[state_].even;
    state_ = before;
    if (way == kZero) return 0;
    const int bits = way == kOdd ? odd_bits(before) : even_bits(before);
    const Scaled near = scaled(weight);
    const int32_t magnitude = near.first + ((bits - near.first) & 3);
    return weight < 0 ? -magnitude : magnitude;
  }

  const double scale_;
  Costs cost_{};
  std::vector<uint16_t> ways_;
  size_t at_ = 0;
  int state_ = -1;  // known once the way back begins
};

}  // namespace nnguard
