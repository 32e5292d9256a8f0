// Probability states of contexts, and which contexts there are (docs/SPEC.md, 2.4.2 and 2.4.3).
//
// A context estimates the probability of a bin twice, over a short and over a long window of the
// bins that it has seen. All tables are made by the formulas of the specification.

#pragma once

#include <array>
#include <cstdint>
#include <cstdlib>
#include <vector>

namespace nnguard {

// The fast estimate stays within +-123, the slow one within +-1923; with a bias they index tables.
constexpr int kFastBias = 128;
constexpr int kSlowBias = 2048;
constexpr int kRows = 32;

// Range of the less probable symbol: a factor for each row of probabilities times the range's
// eighth.
constexpr std::array<uint8_t, kRows> kLpsFactor = {
    114, 100, 87, 75, 66, 58, 51, 45, 40, 35, 31, 27, 24, 21, 18, 16,
    14,  13,  11, 10, 9,  8,  7,  7,  5,  5,  4,  4,  3,  3,  2,  2};

constexpr uint32_t lps_range(uint32_t row, uint32_t range) {
  return kLpsFactor[row] * ((range >> 5) + 1) >> 3;
}

// By how much an estimate moves towards a bin, before the window divides it.
constexpr std::array<uint16_t, 32> kStep = {
    2512, 2288, 2064, 1840, 1616, 1392, 1168, 944, 720, 560, 464, 368, 272, 208, 144, 80,
    64,   64,   64,   64,   64,   64,   64,   64,  64,  64,  64,  64,  64,  64,  64,  0};

// What a context can start from: window sizes as shifts, and both estimates.
struct StartState {
  uint8_t fast_shift, slow_shift;
  int8_t fast;
  int16_t slow;
};

constexpr int kStartStates = 9;
constexpr std::array<StartState, kStartStates> kStartState = {{
    {5, 4, 0, 0},
    {5, 4, -41, -1310 + 16 * 41},
    {5, 4, 95, 3039 - 16 * 95},
    {4, 5, 0, 0},
    {6, 6, 30, 962 - 16 * 30},
    {6, 6, 95, 3039 - 16 * 95},
    {6, 6, -21, -673 + 16 * 21},
    {7, 5, 0, 0},
    {7, 5, 30, 962 - 16 * 30},
}};

constexpr int kFastShiftMin = 4, kFastShifts = 4;
constexpr int kSlowShiftMin = 4, kSlowShifts = 3;

// A state of an estimate is one number: twice the estimate and its bias, plus a multiple that tells
// the window. The next state stands at the state plus the bin. Multiples are so large that those of
// both estimates vanish from the sum `slow + 16 * fast` modulo kSumSpan.
constexpr int kFastSpan = 8 * kFastBias;
constexpr int kSlowSpan = 8 * kSlowBias;
constexpr uint32_t kSumSpan = 16384;

struct NextStates {
  uint16_t fast[kFastShifts * kFastSpan]{};
  uint16_t slow[kSlowShifts * kSlowSpan]{};

  constexpr NextStates() {
    for (int shift = 0; shift < kFastShifts; ++shift)
      fill(fast, shift * kFastSpan, kFastBias, 3, shift + kFastShiftMin);
    for (int shift = 0; shift < kSlowShifts; ++shift)
      fill(slow, shift * kSlowSpan, kSlowBias, 7, shift + kSlowShiftMin);
  }

 private:
  static constexpr void fill(uint16_t* next, int base, int bias, int scale, int shift) {
    for (int estimate = 1 - bias; estimate < bias; ++estimate)
      for (int bin = 0; bin < 2; ++bin) {
        const int sign = bin ? 1 : -1;
        const int moved = estimate + sign * (kStep[16 + (sign * estimate >> scale)] >> shift);
        // Estimates near the bias are never reached; they only have to stay within the table.
        const int most = bias - 1;
        next[base + 2 * (estimate + bias) + bin] = static_cast<uint16_t>(
            base + 2 * (bias + (moved > most ? most : moved < -most ? -most : moved)));
      }
  }
};

constexpr uint16_t first_fast(const StartState& from) {
  return static_cast<uint16_t>((from.fast_shift - kFastShiftMin) * kFastSpan +
                               2 * (from.fast + kFastBias));
}

constexpr uint16_t first_slow(const StartState& from) {
  return static_cast<uint16_t>((from.slow_shift - kSlowShiftMin) * kSlowSpan +
                               2 * (from.slow + kSlowBias));
}

// Twice the sum of both estimates and 4096.
constexpr uint32_t biased_sum(uint32_t fast, uint32_t slow) {
  return (slow + 16 * fast) % kSumSpan;
}

// How a bin splits a range, and what follows either symbol, renormalized: the range's low byte, and
// the bits to move by. In one word, as every bin waits for it to load.
class Split {
 public:
  constexpr Split() = default;
  constexpr Split(uint32_t row, uint32_t range) {
    const uint32_t less = lps_range(row, range), more = range - less;
    uint32_t shift = 0;
    while (less << shift < 256) ++shift;
    const uint32_t after_more = more < 256 ? 2 * more : more;
    word_ = more << 23 | shift << 16 | (less << shift & 255) << 8 | (after_more & 255);
  }

  // Range of the more probable symbol, which may be below 256.
  constexpr uint32_t more() const { return word_ >> 23; }
  constexpr uint32_t shift_after_more() const { return word_ >> 31 ^ 1; }
  constexpr uint32_t shift_after_less() const { return word_ >> 16 & 7; }
  constexpr uint32_t after_more() const { return word_ & 255; }
  constexpr uint32_t after_less() const { return word_ >> 8 & 255; }

 private:
  uint32_t word_ = 0;
};

// By row, and the low byte of the range.
struct Splits {
  Split entry[kRows][256]{};

  constexpr Splits() {
    for (uint32_t row = 0; row < kRows; ++row)
      for (uint32_t low = 0; low < 256; ++low) entry[row][low] = Split(row, 256 + low);
  }
};

// What both estimates say together: the more probable symbol, and where the row of the less probable
// one's range begins among the splits, in bytes.
struct Guess {
  uint16_t row, symbol;
};

// By `slow + 16 * fast` in steps of 256, again and again so that nobody has to take the remainder.
struct Guesses {
  static constexpr int kSteps = kSumSpan >> 8;
  Guess entry[(16 * kFastShifts * kFastSpan + kSlowShifts * kSlowSpan) >> 8]{};

  constexpr Guesses() {
    int at = 0;
    for (Guess& guess : entry) {
      const int step = at++ % kSteps - kSteps / 2, size = step < 0 ? -step : step;
      guess.row = static_cast<uint16_t>((size < kRows ? size : kRows - 1) * sizeof(Split[256]));
      guess.symbol = step >= 0;
    }
  }
};

// In one piece, so that coders need one register to find them.
struct Tables {
  NextStates next;
  Guesses guess;
  Splits split;
};

inline constexpr Tables kTables;

// The state of one context.
class Context {
 public:
  explicit Context(int start = 0)
      : fast_(first_fast(kStartState[start])), slow_(first_slow(kStartState[start])) {
    estimate();
  }

  // How the next bin splits a range that is so much larger than 256. The row is found first, by its
  // bytes, so that nothing but the load stands between a range and the next.
  Split split(uint64_t range) const {
    const char* const row = reinterpret_cast<const char*>(kTables.split.entry) + guess_.row;
    return reinterpret_cast<const Split*>(row)[range];
  }
  uint32_t more_probable() const { return guess_.symbol; }

  void update(uint32_t bin) {
    fast_ = (kTables.next.fast + bin)[fast_];
    slow_ = (kTables.next.slow + bin)[slow_];
    estimate();
  }

 private:
  void estimate() { guess_ = kTables.guess.entry[(slow_ + 16u * fast_) >> 8]; }

  uint16_t fast_, slow_;
  Guess guess_;
};

// Trellis-coded quantization knows eight states; other tensors stay in state 0.
constexpr int kTrellisStates = 8;
constexpr std::array<std::array<uint8_t, 2>, kTrellisStates> kNextTrellisState = {
    {{0, 2}, {7, 5}, {1, 3}, {6, 4}, {2, 0}, {5, 7}, {3, 1}, {4, 6}}};

constexpr int kSigns = 3;  // of the neighbor: zero, negative, positive
constexpr int kPrefixes = 31;

// Where each kind of context begins in the list of start states.
struct Layout {
  Layout(bool dependent, int unary_length)
      : sign(kSigns * (dependent ? kTrellisStates : 1)),
        greater(sign + kSigns),
        prefix(greater + 2 * unary_length),
        size(prefix + kPrefixes),
        unary_length(unary_length) {}

  int sign, greater, prefix, size, unary_length;
};

inline int sign_of(int64_t value) { return value < 0 ? 1 : value > 0 ? 2 : 0; }

}  // namespace nnguard
