#include "safetensors.hpp"

#include <algorithm>

#include "refused.hpp"

namespace deeplight {
namespace {

constexpr uint64_t kMostHeaderBytes = 16 << 20;  // a description of thousands of fields has less than one MiB

struct Dtype { const char *name, *numpy; uint64_t bytes; };
constexpr Dtype kDtypes[] = {{"F64", "<f8", 8}, {"F32", "<f4", 4}, {"F16", "<f2", 2}, {"I64", "<i8", 8},
                             {"I32", "<i4", 4}, {"I16", "<i2", 2}, {"I8", "|i1", 1},  {"U64", "<u8", 8},
                             {"U32", "<u4", 4}, {"U16", "<u2", 2}, {"U8", "|u1", 1},  {"BOOL", "|b1", 1}};

const Dtype *find_dtype(const std::string &name) {
  const auto found = std::find_if(std::begin(kDtypes), std::end(kDtypes), [&](const Dtype &d) { return name == d.name; });
  return found == std::end(kDtypes) ? nullptr : found;
}

uint64_t count_of(const json::Value &value, const std::string &array) {
  if (value.kind != json::Value::kInteger || value.integer < 0)
    damaged("the shape or place of its array " + shown(array) + " is no row of counts");
  return static_cast<uint64_t>(value.integer);
}

Array read_array(const std::string &name, const json::Value &about) {
  const json::Value *dtype = about.find("dtype"), *shape = about.find("shape"), *place = about.find("data_offsets");
  if (!dtype || !shape || !place || about.members.size() != 3 || dtype->kind != json::Value::kString ||
      shape->kind != json::Value::kArray || place->items.size() != 2)
    damaged("its header does not give dtype, shape and data_offsets of array " + shown(name));
  const Dtype *known = find_dtype(dtype->text);
  if (!known) damaged("its array " + shown(name) + " is of the unknown dtype " + shown(dtype->text, 16));
  Array out{name, dtype->text, {}, count_of(place->items[0], name), count_of(place->items[1], name)};
  uint64_t bytes = known->bytes;
  for (const json::Value &axis : shape->items) {
    const uint64_t length = count_of(axis, name);
    if (__builtin_mul_overflow(bytes, length, &bytes)) damaged("the shape of its array " + shown(name) + " is too large");
    out.shape.push_back(static_cast<int64_t>(length));
  }
  if (out.end < out.begin || out.end - out.begin != bytes)
    damaged("the shape of its array " + shown(name) + " does not fit its bytes");
  return out;
}

void check_places(const std::vector<Array> &arrays, uint64_t bytes) {
  uint64_t at = 0;
  for (const Array &array : arrays) {
    if (array.begin != at)
      damaged("its array " + shown(array.name) + (array.begin < at ? " overlaps another" : " lies behind a gap"));
    at = array.end;
  }
  if (at > bytes) damaged("it ends " + std::to_string(at - bytes) + " bytes too early: it was truncated");
  if (at < bytes) damaged("it has " + std::to_string(bytes - at) + " bytes behind its last array");
}

void check_metadata(const json::Value &metadata) {
  bool texts = metadata.kind == json::Value::kObject;
  for (const json::Member &member : metadata.members) texts &= member.value.kind == json::Value::kString;
  if (!texts) damaged("its metadata is no object of texts");
}

}  // namespace

Header read_header(Source &source) {
  unsigned char start[8];
  if (source.size < sizeof start) damaged("it has " + std::to_string(source.size) + " bytes, too few for a header");
  source.read(start, sizeof start);
  uint64_t size = 0;
  for (int i = 7; i >= 0; i--) size = size << 8 | start[i];
  const uint64_t left = source.size - sizeof start;
  if (size > left || size > kMostHeaderBytes)
    damaged("its header would have " + std::to_string(size) + " bytes of " + std::to_string(left));
  std::string text(size, '\0');
  source.read(text.data(), size);
  json::Value header = json::parse(text);
  if (header.kind != json::Value::kObject) damaged("its header is no JSON object");
  Header out;
  for (json::Member &member : header.members) {
    if (member.key == "__metadata__") {
      check_metadata(member.value);
      out.metadata = std::move(member.value);
    } else {
      out.arrays.push_back(read_array(member.key, member.value));
    }
  }
  std::stable_sort(out.arrays.begin(), out.arrays.end(), [](const Array &a, const Array &b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  });
  check_places(out.arrays, left - size);
  return out;
}

const char *numpy_dtype(const std::string &dtype) {
  const Dtype *known = find_dtype(dtype);
  return known ? known->numpy : "?";
}

std::string text_of(const std::vector<int64_t> &shape) {
  std::string out = "[";
  for (int64_t axis : shape) out += (out.size() > 1 ? ", " : "") + std::to_string(axis);
  return out + "]";
}

}  // namespace deeplight
