// From weights to indices: uniform (URQ) and trellis-coded (TCQ) quantization.
//
// TCQ is a Viterbi search: of all paths through the trellis, that of the least squared error. Which
// of the ways into a state is best is kept in two bits, 16 for the eight states of a weight. Costs
// are sums in double precision in the order of the weights, so that indices are those of the stock
// encoder.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <limits>
#include <vector>

#include "contexts.hpp"
#include "scan.hpp"

namespace nnguard {

// The float itself if a 32-bit integer holds it, else the last one that does; what is no number
// counts as infinite. By its bits, because compilers do not vectorize comparisons of floats.
inline float bounded(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const uint32_t sign = bits >> 31, most = 0x4EFFFFFF + sign;  // 2^31 - 128, -2^31
  bits = std::min(bits & 0x7FFFFFFF, most) | sign << 31;
  std::memcpy(&value, &bits, sizeof bits);
  return value;
}

inline void quantize_uniform(const float* weights, size_t count, float step, int32_t* indices) {
  const float scale = 1.0f / step;
  for (size_t i = 0; i < count; ++i) {
    // Halves go away from zero. The difference is exact: a float without a fraction is its own.
    const float scaled = bounded(scale * weights[i]);
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
    constexpr double kNever = 0.5 * std::numeric_limits<double>::max();
    cost_ = {Pair{0, kNever}, Pair{kNever, kNever}, Pair{kNever, kNever}, Pair{kNever, kNever}};
  }

  void forward(const float* weights, size_t count) {
    Costs cost = cost_;
    for (size_t i = 0; i < count; ++i) ways_[at_++] = step_forward(weights[i], cost);
    cost_ = cost;
  }

  void backward(const float* weights, size_t count, int32_t* indices) {
    if (state_ < 0) state_ = best_state();
    int state = state_;  // not written back for each weight
    while (count--) indices[count] = step_back(weights[count], ways_[--at_], state);
    state_ = state;
  }

  // Weights that are still to be gone back over.
  size_t left() const { return at_; }

 private:
  // Two states at once: vectors of GCC and Clang, which every 64-bit processor has registers for.
  using Pair = double __attribute__((vector_size(16)));
  using Bits = decltype(Pair{} < Pair{});  // all ones where it holds

  // The costs of the states, in an order in which pairs go the same ways.
  struct Costs {
    Pair of02, of46, of31, of75;
  };

  // Of the best way into a state: whether its integer is even, and if so, whether it is not zero.
  enum : unsigned { kNotZero = 1, kEven = 2 };

  // What came before a state on its best way, and the integer's last two bits: four magnitudes that
  // follow each other have different ones, which tell the quantizer and the parity.
  struct Before {
    uint8_t state, bits;
  };
  static constexpr Before kBefore[2][kTrellisStates] = {  // by an odd integer, by an even one
      {{4, 2}, {6, 2}, {0, 2}, {2, 2}, {3, 1}, {1, 1}, {7, 1}, {5, 1}},
      {{0, 0}, {2, 0}, {4, 0}, {6, 0}, {7, 3}, {5, 3}, {3, 3}, {1, 3}}};

  // A weight in steps, and the first of four magnitudes about it.
  struct Scaled {
    double magnitude;
    int32_t first;
  };

  Scaled scaled(float weight) const {
    // The caller keeps weights within range; others, and what is no number, just have to be safe.
    const double magnitude = std::fabs(scale_ * static_cast<double>(weight));
    const double bounded = magnitude < kLargest ? magnitude : kLargest;
    return {bounded, std::max(1, static_cast<int32_t>(bounded) - 1)};
  }
  static constexpr double kLargest = std::numeric_limits<int32_t>::max() - 2;

  uint16_t step_forward(float weight, Costs& cost) const {
    const Scaled near = scaled(weight);
    const Pair magnitude = {near.magnitude, near.magnitude};
    const Pair first = {static_cast<double>(near.first), static_cast<double>(near.first)};
    const Pair* const offset = kOffset[near.first & 3];
    const Pair difference01 = magnitude - (first + offset[0]);
    const Pair difference23 = magnitude - (first + offset[1]);
    const Pair error01 = difference01 * difference01, error23 = difference23 * difference23;
    const Pair error0 = {error01[0], error01[0]}, error1 = {error01[1], error01[1]};
    const Pair error2 = {error23[0], error23[0]}, error3 = {error23[1], error23[1]};
    const Pair zero = magnitude * magnitude;
    Bits ways{};
    const auto [of02, of46, of31, of75] = cost;
    const Pair to01 = best<0, false>(of02 + error0, of02 + zero, of46 + error2, ways);
    const Pair to23 = best<2, true>(of46 + error0, of46 + zero, of02 + error2, ways);
    const Pair to45 = best<4, true>(of75 + error3, of75 + zero, of31 + error1, ways);
    const Pair to67 = best<6, false>(of31 + error3, of31 + zero, of75 + error1, ways);
    cost = {Pair{to01[0], to23[0]}, Pair{to45[0], to67[0]}, Pair{to23[1], to01[1]},
            Pair{to67[1], to45[1]}};
    return static_cast<uint16_t>(ways[0] | ways[1]);
  }

  // By the last two bits of the first magnitude: by how much those with bits 0 to 3 are above it.
  static constexpr Pair kOffset[4][2] = {
      {{0, 1}, {2, 3}}, {{3, 0}, {1, 2}}, {{2, 3}, {0, 1}}, {{1, 2}, {3, 0}}};

  // The least costs of two states that follow each other. An even integer wins over zero where they
  // cost the same; between even and odd, the lower state before wins. (Ways are told by what the
  // minimum does not ask, so that compilers see a minimum and not a comparison used twice.)
  template <int kState, bool kOddIsLower>
  static Pair best(Pair even, Pair zero, Pair odd, Bits& ways) {
    constexpr Bits kNotZeroOf = {kNotZero << 2 * kState, kNotZero << (2 * kState + 2)};
    constexpr Bits kEvenOf = {kEven << 2 * kState, kEven << (2 * kState + 2)};
    const Pair least = zero < even ? zero : even;
    ways |= (even <= zero) & kNotZeroOf;
    ways |= (kOddIsLower ? least < odd : least <= odd) & kEvenOf;
    return odd < least ? odd : least;
  }

  int best_state() const {
    const auto [of02, of46, of31, of75] = cost_;
    const double costs[] = {of02[0], of31[1], of02[1], of31[0], of46[0], of75[1], of46[1], of75[0]};
    return static_cast<int>(std::min_element(std::begin(costs), std::end(costs)) - costs);
  }

  int32_t step_back(float weight, unsigned ways, int& state) const {
    const unsigned way = ways >> 2 * state;
    const Before before = kBefore[way / kEven % 2][state];
    state = before.state;
    const int32_t first = scaled(weight).first;
    const int32_t magnitude = first + ((before.bits - first) & 3);
    const int32_t index = weight < 0 ? -magnitude : magnitude;
    return (way & (kEven | kNotZero)) == kEven ? 0 : index;
  }

  const double scale_;
  Costs cost_;
  std::vector<uint16_t> ways_;
  size_t at_ = 0;
  int state_ = -1;  // known once the way back begins
};

}  // namespace nnguard
