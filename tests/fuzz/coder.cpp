// Fuzzing the entropy coder by coverage, under sanitizers: make fuzz-coder SECONDS=60
//
// Two laws. What a payload decodes to encodes to the same payload. What indices encode to decodes to
// the same indices, whole and by rows of blocks. Everything else is a DamagedPayload.
//
// Most cases are small, so that there are many of them: few rows, few contexts, and start states from
// the input, as searching for them costs more than all the rest.

#include <cstdlib>
#include <cstring>

#include "../../src/coder/quantizer.hpp"
#include "../../src/coder/search.hpp"
#include "../../src/coder/tensor_decoder.hpp"
#include "../../src/coder/tensor_encoder.hpp"

using namespace nnguard;

namespace {

struct Input {
  const uint8_t* data;
  size_t size;

  uint8_t next() { return size ? --size, *data++ : 0; }
};

struct Case {
  Scan scan;
  Format format;
};

constexpr uint8_t kLongUnary = 0xA5;  // no byte that mutators like

Case read_case(Input& input, uint8_t flags) {
  static constexpr int kUnaryLengths[] = {1, 2, 10, 11, 3, 4, 30, 11};
  const uint8_t height = input.next(), width = input.next(), more = input.next();
  const int scan_order = flags & 128 ? 1 + (more & 3) / 3 : 0;
  const size_t rows = 1 + height % (scan_order || height >= 240 ? 20 : 8);
  const int unary_length = more == kLongUnary ? 256 : kUnaryLengths[flags >> 2 & 7];
  return {Scan(rows, 1 + width % 11, scan_order),
          {(flags & 2) != 0, unary_length, flags & 32 ? 8 : 0, (flags & 64) != 0}};
}

std::vector<int32_t> decode_whole(const Case& is, TensorDecoder& decoder) {
  std::vector<int32_t> indices(is.scan.rows() * is.scan.width());
  if (!is.scan.in_blocks()) {
    const size_t half = indices.size() / 2;
    decoder.decode(indices.data(), half);
    decoder.decode(indices.data() + half, indices.size() - half);
    decoder.finish();
    return indices;
  }
  EntryPoint entry = decoder.first_entry_point();
  for (size_t row = 0; row < is.scan.block_rows(); ++row)
    entry = decoder.decode_block_row(row, entry,
                                     indices.data() + is.scan.first_row(row) * is.scan.width());
  return indices;
}

void require(bool holds) {
  if (!holds) std::abort();
}

// A payload in parts of a few bytes each, in memory of their own.
class Parts : public Source {
 public:
  Parts(Input payload, size_t size) : payload_(payload), size_(size) {}

  Bytes next() override {
    const size_t size = std::min(size_, payload_.size);
    if (!size) return {nullptr, 0};
    part_.assign(payload_.data, payload_.data + size);
    payload_.data += size, payload_.size -= size;
    return {part_.data(), size};
  }

 private:
  Input payload_;
  const size_t size_;
  std::vector<uint8_t> part_;
};

// Decodes a payload in parts; returns nothing where it is damaged.
std::vector<int32_t> decode_parts(const Case& is, Input payload, size_t size) {
  try {
    Parts parts(payload, size);
    TensorDecoder decoder({nullptr, 0}, payload.size, &parts, is.scan, is.format);
    return decode_whole(is, decoder);
  } catch (const DamagedPayload&) {
    return {};
  }
}

void check_payload(const Case& is, Input payload) {
  std::vector<int32_t> in_parts;
  if (!is.scan.in_blocks()) in_parts = decode_parts(is, payload, 1 + payload.size % 5);
  try {
    TensorDecoder decoder({payload.data, payload.size}, payload.size, nullptr, is.scan, is.format);
    const auto indices = decode_whole(is, decoder);
    require(is.scan.in_blocks() || in_parts == indices);
    TensorEncoder encoder(is.scan, is.format, decoder.qp(), decoder.start_states(),
                          decoder.skipped_rows());
    encoder.encode(indices.data(), indices.size());
    const auto again = encoder.finish();
    require(again.size() == payload.size && !std::memcmp(again.data(), payload.data, again.size()));
  } catch (const DamagedPayload&) {
    require(in_parts.empty());
  }
}

void check_entry(const Case& is, Input payload) {
  try {
    TensorDecoder decoder({payload.data, payload.size}, payload.size, nullptr, is.scan, is.format);
    if (is.scan.block_rows() < 2) return;
    const uint64_t byte = payload.next();
    const uint32_t bit = payload.next() % 8, value = payload.next();
    const EntryPoint entry{8 * byte + bit, value, payload.next() % kTrellisStates};
    const size_t row = payload.next() % is.scan.block_rows();
    std::vector<int32_t> indices(is.scan.rows() * is.scan.width());
    decoder.decode_block_row(row, entry, indices.data());
  } catch (const DamagedPayload&) {
  }
}

// Searches in one case of 32; else the input has the first states, and all others are the last one.
std::vector<uint8_t> read_start_states(const Case& is, Input& input,
                                       const std::vector<int32_t>& indices,
                                       const std::vector<uint8_t>& skipped_rows) {
  const uint8_t how = input.next();
  if (how % 32 == 31) {
    Search search(is.scan, is.format, skipped_rows);
    search.observe(indices.data(), indices.size());
    return search.best();
  }
  std::vector<uint8_t> states(Layout(is.format.dependent, is.format.unary_length).size,
                              how % kStartStates);
  for (size_t i = 0; i < states.size() && input.size; ++i) states[i] = input.next() % kStartStates;
  return states;
}

void check_indices(const Case& is, Input input) {
  std::vector<int32_t> indices(is.scan.rows() * is.scan.width());
  std::vector<float> weights(indices.size());
  for (float& weight : weights) {
    const int magnitude = input.next();
    weight = static_cast<float>((magnitude & 1 ? -1 : 1) * (magnitude >> 1)) / 7;
    if (magnitude == 255) weight *= static_cast<float>(1 << input.next() % 20);
  }
  if (is.format.dependent) {
    if (is.scan.in_blocks()) return;  // runs of blocks are the module's business
    Trellis trellis(0.5f, weights.size());
    trellis.forward(weights.data(), weights.size());
    trellis.backward(weights.data(), weights.size(), indices.data());
  } else {
    quantize_uniform(weights.data(), weights.size(), 0.5f, indices.data());
  }
  std::vector<uint8_t> rows;
  if (is.format.row_flag && is.scan.is_matrix() && input.next() & 1)
    for (size_t row = 0; row < is.scan.rows(); ++row) {
      bool zero = true;
      for (size_t i = 0; i < is.scan.width(); ++i) zero &= !indices[row * is.scan.width() + i];
      rows.push_back(zero);
    }
  const auto start_states = read_start_states(is, input, indices, rows);
  TensorEncoder encoder(is.scan, is.format, is.format.qp_bits ? -38 : 0, start_states, rows);
  encoder.encode(indices.data(), indices.size());
  const auto payload = encoder.finish();
  TensorDecoder decoder({payload.data(), payload.size()}, payload.size(), nullptr, is.scan,
                        is.format);
  require(decoder.start_states() == start_states && decoder.skipped_rows() == rows);
  require(decode_whole(is, decoder) == indices);
  for (size_t row = 1; row < encoder.entry_points().size(); ++row) {
    std::vector<int32_t> part(is.scan.rows() * is.scan.width());
    decoder.decode_block_row(row, encoder.entry_points()[row], part.data());
    const size_t begin = is.scan.first_row(row) * is.scan.width();
    const size_t end = is.scan.first_row(row + 1) * is.scan.width();
    require(std::equal(part.begin(), part.begin() + (end - begin), indices.begin() + begin));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input{data, size};
  const uint8_t flags = input.next();
  const Case is = read_case(input, flags);
  if (flags & 1) {
    check_indices(is, input);
  } else {
    check_payload(is, input);
    check_entry(is, input);
  }
  return 0;
}
