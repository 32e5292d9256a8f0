// Prints digests of what the entropy coder makes of weights and of damaged payloads that are the same
// everywhere, so that compilers and processors can be compared: make cross

#include <cstdio>
#include <cstdlib>

#include "../../src/coder/quantizer.hpp"
#include "../../src/coder/search.hpp"
#include "../../src/coder/tensor_decoder.hpp"
#include "../../src/coder/tensor_encoder.hpp"

using namespace nnguard;

namespace {

class Random {  // xorshift64*
 public:
  uint32_t next() {
    state_ ^= state_ >> 12, state_ ^= state_ << 25, state_ ^= state_ >> 27;
    return static_cast<uint32_t>((state_ * 0x2545F4914F6CDD1D) >> 32);
  }
  uint32_t below(uint32_t end) { return next() % end; }

 private:
  uint64_t state_ = 1;
};

class Digest {  // FNV-1a
 public:
  void add(uint64_t value) {
    for (int shift = 0; shift < 64; shift += 8)
      value_ = (value_ ^ (value >> shift & 255)) * 0x100000001B3;
  }
  template <class T>
  void add(const std::vector<T>& values) {
    add(values.size());
    for (const T& each : values) add(static_cast<uint64_t>(static_cast<int64_t>(each)));
  }
  void print(const char* what) const {
    std::printf("%s %016llx\n", what, static_cast<unsigned long long>(value_));
  }

 private:
  uint64_t value_ = 0xCBF29CE484222325;
};

struct Case {
  Scan scan;
  Format format;
  size_t size() const { return scan.rows() * scan.width(); }
};

Case any_case(Random& random) {
  static constexpr int kUnaryLengths[] = {1, 2, 10, 11, 256};
  const bool dependent = random.below(2) != 0;
  // Runs of blocks through the trellis are the module's business.
  const int scan_order = dependent ? 0 : static_cast<int>(random.below(3));
  const size_t rows = 1 + random.below(40), width = 1 + random.below(40);
  return {Scan(rows, width, scan_order),
          {dependent, kUnaryLengths[random.below(5)], random.below(2) ? 8 : 0,
           random.below(2) != 0}};
}

// Weights of many magnitudes, or multiples of half a step, where two paths cost all but the same.
std::vector<float> any_weights(Random& random, size_t count, float step) {
  const float scale = random.below(2) ? step / 2 : 1.0f / static_cast<float>(1u << random.below(24));
  std::vector<float> weights(count);
  for (float& weight : weights) {
    const float magnitude = static_cast<float>(random.next() >> (16 + random.below(16)));
    weight = random.below(4) ? scale * (random.below(2) ? -magnitude : magnitude) : 0;
  }
  return weights;
}

std::vector<int32_t> quantized(const Case& is, const std::vector<float>& weights, float step) {
  std::vector<int32_t> indices(weights.size());
  if (!is.format.dependent) {
    quantize_uniform(weights.data(), weights.size(), step, indices.data());
  } else {
    Trellis trellis(step, weights.size());
    trellis.forward(weights.data(), weights.size());
    trellis.backward(weights.data(), weights.size(), indices.data());
  }
  return indices;
}

std::vector<int32_t> decoded(const Case& is, TensorDecoder& decoder) {
  std::vector<int32_t> indices(is.size());
  if (!is.scan.in_blocks()) {
    decoder.decode(indices.data(), indices.size());
    decoder.finish();
    return indices;
  }
  EntryPoint entry = decoder.first_entry_point();
  for (size_t row = 0; row < is.scan.block_rows(); ++row)
    entry = decoder.decode_block_row(row, entry,
                                     indices.data() + is.scan.first_row(row) * is.scan.width());
  return indices;
}

}  // namespace

int main(int count, char** arguments) {
  Random random;
  Digest indices_of, payloads_of, damage_of;
  for (int left = count > 1 ? std::atoi(arguments[1]) : 2000; left > 0; --left) {
    const Case is = any_case(random);
    const float step = static_cast<float>(1 + random.below(1 << 16)) / (1 << 16);
    const auto indices = quantized(is, any_weights(random, is.size(), step), step);
    indices_of.add(indices);

    Search search(is.scan, is.format, {});
    search.observe(indices.data(), indices.size());
    TensorEncoder encoder(is.scan, is.format, is.format.qp_bits ? -38 : 0, search.best(), {});
    encoder.encode(indices.data(), indices.size());
    auto payload = encoder.finish();
    payloads_of.add(payload);
    for (const EntryPoint& entry : encoder.entry_points())
      payloads_of.add(entry.position), payloads_of.add(entry.value);

    TensorDecoder decoder({payload.data(), payload.size()}, payload.size(), nullptr, is.scan,
                          is.format);
    if (decoded(is, decoder) != indices) return std::fputs("not what was encoded\n", stderr), 1;

    payload[random.below(static_cast<uint32_t>(payload.size()))] ^= 1u << random.below(8);
    try {
      TensorDecoder damaged({payload.data(), payload.size()}, payload.size(), nullptr, is.scan,
                            is.format);
      damage_of.add(decoded(is, damaged));
    } catch (const DamagedPayload& error) {
      damage_of.add(error.offset);
    }
  }
  indices_of.print("indices ");
  payloads_of.print("payloads");
  damage_of.print("damage  ");
}
