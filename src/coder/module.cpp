// The module nnguard._stream._coder: decoding, encoding and quantizing one tensor, a piece at a time.
//
// All long work is done without the interpreter's lock. An object belongs to one thread at a time.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <tuple>

#include "quantizer.hpp"
#include "search.hpp"
#include "tensor_decoder.hpp"
#include "tensor_encoder.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace nnguard {
namespace {

template <class T>
using Flat = nb::ndarray<T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Point = std::tuple<uint64_t, uint32_t, int>;  // position, value, state

constexpr auto kReleased = nb::call_guard<nb::gil_scoped_release>();

void require(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(what);
}

// Counts the indices of a tensor as they go by.
class Remaining {
 public:
  explicit Remaining(const Scan& scan) : scan_(scan), left_(scan.rows() * scan.width()) {}

  void take(size_t count) {
    require(count <= left_, "more indices than the tensor has");
    if (scan_.in_blocks()) {
      const size_t block = scan_.first_row(1) * scan_.width();
      require(count == left_ || count % block == 0, "a tensor in blocks comes in whole rows of blocks");
    }
    left_ -= count;
  }

  void require_none() const { require(!left_, "not all indices have been coded"); }

 private:
  const Scan scan_;
  size_t left_;
};

static_assert(sizeof(size_t) == 8, "tensors have more than 2^32 weights");

Scan checked_scan(size_t rows, size_t width, int scan_order) {
  require(rows > 0 && width > 0 && rows <= (size_t{1} << 40) / width, "rows or width out of range");
  require(scan_order >= 0 && scan_order <= 4, "scan_order goes from 0 to 4");
  return Scan(rows, width, scan_order);
}

Format checked_format(bool dependent, int unary_length, int qp_bits, bool row_flag) {
  require(unary_length >= 1 && unary_length <= 256, "unary_length goes from 1 to 256");
  require(qp_bits >= 0 && qp_bits <= 16, "qp_bits goes from 0 to 16");
  return {dependent, unary_length, qp_bits, row_flag};
}

std::vector<uint8_t> checked_rows(const nb::bytes& flags, const Scan& scan, const Format& format) {
  const auto* data = static_cast<const uint8_t*>(flags.data());
  const bool may_skip = format.row_flag && scan.is_matrix();
  require(!flags.size() || (may_skip && flags.size() == scan.rows()), "a flag for each row, or none");
  for (size_t i = 0; i < flags.size(); ++i) require(data[i] < 2, "flags are 0 or 1");
  return {data, data + flags.size()};
}

std::vector<uint8_t> checked_states(const nb::bytes& states, const Format& format) {
  const auto* data = static_cast<const uint8_t*>(states.data());
  const Layout layout(format.dependent, format.unary_length);
  require(states.size() == static_cast<size_t>(layout.size), "a start state for each context");
  for (size_t i = 0; i < states.size(); ++i)
    require(data[i] < kStartStates, "start states go from 0 to 8");
  return {data, data + states.size()};
}

nb::bytes as_bytes(const std::vector<uint8_t>& data) { return nb::bytes(data.data(), data.size()); }

EntryPoint entry_point(const Point& point) {
  const auto [position, value, state] = point;
  require(state >= 0 && state < kTrellisStates, "states go from 0 to 7");
  return {position, value, state};
}

Point as_point(const EntryPoint& point) { return {point.position, point.value, point.state}; }

// The parts of a payload that a Python function gives as bytes, one after the other.
class Parts : public Source {
 public:
  explicit Parts(nb::object more) : more_(std::move(more)) {}

  Bytes next() override {
    nb::gil_scoped_acquire acquired;
    const nb::bytes part = nb::cast<nb::bytes>(more_());
    if (!part.size()) return {nullptr, 0};
    part_ = part;
    return {static_cast<const uint8_t*>(part_.data()), part_.size()};
  }

 private:
  const nb::object more_;
  nb::bytes part_{"", 0};
};

class Decoder {
 public:
  Decoder(nb::bytes first, size_t size, nb::object more, const Scan& scan, const Format& format)
      : first_(std::move(first)), parts_(std::move(more)), scan_(scan), remaining_(scan),
        decoder_(started({static_cast<const uint8_t*>(first_.data()), first_.size()}, size,
                         size > first_.size() ? &parts_ : nullptr, scan, format)) {}

  static void construct(Decoder* self, nb::bytes payload, size_t rows, size_t width,
                        bool dependent, int unary_length, int qp_bits, bool row_flag,
                        int scan_order, size_t size, nb::object more) {
    const Scan scan = checked_scan(rows, width, scan_order);
    require(size == payload.size() || (size > payload.size() && !scan.in_blocks()),
            "a payload in parts is larger than the first of them, and not in blocks");
    new (self) Decoder(std::move(payload), size, std::move(more), scan,
                       checked_format(dependent, unary_length, qp_bits, row_flag));
  }

  void decode(Flat<int32_t> indices) {
    require(!scan_.in_blocks(), "a tensor in blocks is decoded by rows of blocks");
    remaining_.take(indices.size());
    decoder_.decode(indices.data(), indices.size());
  }

  // Decodes rows of blocks that follow each other, and returns where the next one begins.
  Point decode_block_rows(size_t first, const std::vector<Point>& entries,
                          Flat<int32_t> indices) const {
    const size_t end = first + entries.size();
    require(scan_.in_blocks() && !entries.empty() && end <= scan_.block_rows(), "no such rows");
    const size_t begin = scan_.first_row(first);
    require(indices.size() == (scan_.first_row(end) - begin) * scan_.width(),
            "indices of another size than the rows of blocks");
    EntryPoint next = entry_point(entries[0]);
    for (size_t row = first; row < end; ++row) {
      const EntryPoint entry = entry_point(entries[row - first]);
      if (!(entry == next))
        throw DamagedPayload("entry points that do not fit it", next.position / 8);
      next = decoder_.decode_block_row(
          row, entry, indices.data() + (scan_.first_row(row) - begin) * scan_.width());
    }
    return as_point(next);
  }

  void finish() {
    remaining_.require_none();
    decoder_.finish();
  }

  int qp() const { return decoder_.qp(); }
  nb::bytes start_states() const { return as_bytes(decoder_.start_states()); }
  nb::bytes skipped_rows() const { return as_bytes(decoder_.skipped_rows()); }
  Point first_entry_point() const { return as_point(decoder_.first_entry_point()); }

 private:
  static TensorDecoder started(Bytes first, size_t size, Source* source, const Scan& scan,
                               const Format& format) {
    nb::gil_scoped_release released;  // there may be millions of row flags
    return TensorDecoder(first, size, source, scan, format);
  }

  const nb::bytes first_;  // lives as long as the decoder does
  Parts parts_;
  const Scan scan_;
  Remaining remaining_;
  TensorDecoder decoder_;
};

class Encoder {
 public:
  static void construct(Encoder* self, size_t rows, size_t width, bool dependent, int unary_length,
                        int qp_bits, bool row_flag, int scan_order, int qp,
                        const nb::bytes& start_states, const nb::bytes& skipped_rows) {
    const Scan scan = checked_scan(rows, width, scan_order);
    const Format format = checked_format(dependent, unary_length, qp_bits, row_flag);
    const int limit = qp_bits ? 1 << (qp_bits - 1) : 1;
    require(qp >= -limit && qp < limit, "qp out of range");
    new (self) Encoder(scan, TensorEncoder(scan, format, qp, checked_states(start_states, format),
                                           checked_rows(skipped_rows, scan, format)));
  }

  void encode(Flat<const int32_t> indices) {
    remaining_.take(indices.size());
    encoder_.encode(indices.data(), indices.size());
  }

  nb::bytes finish() {
    remaining_.require_none();
    require(!finished_, "the payload has been given");
    finished_ = true;
    return as_bytes(encoder_.finish());
  }

  std::vector<Point> entry_points() const {
    std::vector<Point> points;
    for (const EntryPoint& point : encoder_.entry_points()) points.push_back(as_point(point));
    return points;
  }

 private:
  Encoder(const Scan& scan, TensorEncoder encoder)
      : remaining_(scan), encoder_(std::move(encoder)) {}

  Remaining remaining_;
  TensorEncoder encoder_;
  bool finished_ = false;
};

class StartStateSearch {
 public:
  static void construct(StartStateSearch* self, size_t rows, size_t width, bool dependent,
                        int unary_length, bool row_flag, int scan_order,
                        const nb::bytes& skipped_rows) {
    const Scan scan = checked_scan(rows, width, scan_order);
    const Format format = checked_format(dependent, unary_length, 0, row_flag);
    new (self) StartStateSearch(scan, Search(scan, format, checked_rows(skipped_rows, scan, format)));
  }

  void observe(Flat<const int32_t> indices) {
    remaining_.take(indices.size());
    search_.observe(indices.data(), indices.size());
  }

  nb::bytes best() const { return as_bytes(search_.best()); }

 private:
  StartStateSearch(const Scan& scan, Search search)
      : remaining_(scan), search_(std::move(search)) {}

  Remaining remaining_;
  Search search_;
};

void quantize(Flat<const float> weights, float step, Flat<int32_t> indices) {
  require(weights.size() == indices.size(), "as many indices as weights");
  require(step > 0, "the step is above 0");
  quantize_uniform(weights.data(), weights.size(), step, indices.data());
}

class TrellisSearch {
 public:
  TrellisSearch(const Scan& scan, float step)
      : scan_(scan), remaining_(scan), trellis_(step, scan.rows() * scan.width()) {}

  static void construct(TrellisSearch* self, size_t rows, size_t width, int scan_order,
                        float step) {
    require(step > 0, "the step is above 0");
    new (self) TrellisSearch(checked_scan(rows, width, scan_order), step);
  }

  void forward(Flat<const float> weights) {
    remaining_.take(weights.size());
    if (!scan_.in_blocks()) return trellis_.forward(weights.data(), weights.size());
    for (size_t at = 0; at < weights.size(); at += weights_in(block_row_++))
      scan_.for_each_run(block_row_, [&](size_t row, size_t column, size_t count) {
        trellis_.forward(weights.data() + at + row * scan_.width() + column, count);
      });
  }

  void backward(Flat<const float> weights, Flat<int32_t> indices) {
    remaining_.require_none();
    require(weights.size() == indices.size(), "as many indices as weights");
    require(weights.size() <= trellis_.left(), "more weights than went forwards");
    if (!scan_.in_blocks())
      return trellis_.backward(weights.data(), weights.size(), indices.data());
    for (size_t left = weights.size(); left;) {
      const size_t count = weights_in(block_row_ - 1);
      require(count <= left, "whole rows of blocks");
      left -= count;
      --block_row_;
      backward_block_row(weights.data() + left, indices.data() + left);
    }
  }

 private:
  size_t weights_in(size_t block_row) const {
    return (scan_.first_row(block_row + 1) - scan_.first_row(block_row)) * scan_.width();
  }

  void backward_block_row(const float* weights, int32_t* indices) {
    std::vector<std::pair<size_t, size_t>> runs;
    scan_.for_each_run(block_row_, [&](size_t row, size_t column, size_t count) {
      runs.emplace_back(row * scan_.width() + column, count);
    });
    for (auto run = runs.rbegin(); run != runs.rend(); ++run)
      trellis_.backward(weights + run->first, run->second, indices + run->first);
  }

  const Scan scan_;
  Remaining remaining_;
  Trellis trellis_;
  size_t block_row_ = 0;
};

// Walks through the trellis from a state; `parities` become those of the states. Returns the next.
int follow_trellis(Flat<uint8_t> parities, Flat<const uint8_t> flipped_if_even, int state) {
  require(parities.size() == flipped_if_even.size(), "as many flips as parities");
  require(state >= 0 && state < kTrellisStates, "state goes from 0 to 7");
  const uint8_t* flipped = flipped_if_even.data();
  for (uint8_t *at = parities.data(), *end = at + parities.size(); at != end; ++at, ++flipped) {
    const int odd = state & 1, parity = (*at ^ (*flipped & ~odd)) & 1;
    *at = static_cast<uint8_t>(odd);
    state = kNextTrellisState[state][parity];
  }
  return state;
}

void raise_damaged(const std::exception_ptr& thrown, void* type) {
  try {
    std::rethrow_exception(thrown);
  } catch (const DamagedPayload& error) {
    PyErr_SetObject(static_cast<PyObject*>(type), nb::make_tuple(error.what(), error.offset).ptr());
  }
}

}  // namespace

NB_MODULE(_coder, module) {
  module.doc() = "DeepCABAC (ISO/IEC 15938-17): payloads of tensors, and their quantization.";

  nb::object damaged = nb::exception<DamagedPayload>(module, "DamagedPayload", PyExc_ValueError);
  nb::register_exception_translator(raise_damaged, damaged.ptr());

  nb::class_<Decoder>(module, "Decoder")
      .def("__init__", &Decoder::construct, "payload"_a, "rows"_a, "width"_a, nb::kw_only(),
           "dependent"_a, "unary_length"_a, "qp_bits"_a, "row_flag"_a, "scan_order"_a, "size"_a,
           "more"_a)
      .def("decode", &Decoder::decode, "indices"_a.noconvert(), kReleased)
      .def("decode_block_rows", &Decoder::decode_block_rows, "first"_a, "entries"_a,
           "indices"_a.noconvert(), kReleased)
      .def("finish", &Decoder::finish)
      .def_prop_ro("qp", &Decoder::qp)
      .def_prop_ro("start_states", &Decoder::start_states)
      .def_prop_ro("skipped_rows", &Decoder::skipped_rows)
      .def_prop_ro("first_entry_point", &Decoder::first_entry_point);

  nb::class_<Encoder>(module, "Encoder")
      .def("__init__", &Encoder::construct, "rows"_a, "width"_a, nb::kw_only(), "dependent"_a,
           "unary_length"_a, "qp_bits"_a, "row_flag"_a, "scan_order"_a, "qp"_a, "start_states"_a,
           "skipped_rows"_a)
      .def("encode", &Encoder::encode, "indices"_a.noconvert(), kReleased)
      .def("finish", &Encoder::finish)
      .def_prop_ro("entry_points", &Encoder::entry_points);

  nb::class_<StartStateSearch>(module, "StartStateSearch")
      .def("__init__", &StartStateSearch::construct, "rows"_a, "width"_a, nb::kw_only(),
           "dependent"_a, "unary_length"_a, "row_flag"_a, "scan_order"_a, "skipped_rows"_a)
      .def("observe", &StartStateSearch::observe, "indices"_a.noconvert(), kReleased)
      .def("best", &StartStateSearch::best);

  nb::class_<TrellisSearch>(module, "TrellisSearch")
      .def("__init__", &TrellisSearch::construct, "rows"_a, "width"_a, nb::kw_only(),
           "scan_order"_a, "step"_a)
      .def("forward", &TrellisSearch::forward, "weights"_a.noconvert(), kReleased)
      .def("backward", &TrellisSearch::backward, "weights"_a.noconvert(),
           "indices"_a.noconvert(), kReleased);

  module.def("follow_trellis", &follow_trellis, "parities"_a.noconvert(),
             "flipped_if_even"_a.noconvert(), "state"_a, kReleased);
  module.def("quantize", &quantize, "weights"_a.noconvert(), "step"_a, "indices"_a.noconvert(),
             kReleased);
}

}  // namespace nnguard
