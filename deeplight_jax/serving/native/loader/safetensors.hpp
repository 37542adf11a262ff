// A safetensors file: 8 bytes of the header's size, the header in JSON, the arrays one behind the other.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "json.hpp"

namespace deeplight {

// Bytes read once, first to last.
struct Source {
  uint64_t size = 0;
  virtual void read(void *out, size_t bytes) = 0;  // throws Refused where fewer are there
  virtual ~Source() = default;
};

struct Array {
  std::string name, dtype;     // as safetensors writes it: F32, I32, U8, ...
  std::vector<int64_t> shape;
  uint64_t begin = 0, end = 0;  // of its bytes, behind the header
};

struct Header {
  json::Value metadata;       // an object of texts
  std::vector<Array> arrays;  // in the order of their bytes
};

// Reads a header; what it says of its arrays is checked: they fill the file, without a gap or an overlap.
// Throws Refused.
Header read_header(Source &source);

// A dtype as NumPy writes it, "<f4" of F32.
const char *numpy_dtype(const std::string &dtype);

// A shape as Python writes it, "[2, 16]".
std::string text_of(const std::vector<int64_t> &shape);

}  // namespace deeplight
