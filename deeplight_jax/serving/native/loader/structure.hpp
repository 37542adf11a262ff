// The compact structure of deeplight_jax/serving/structure.py as its file holds it, checked.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "../deeplight.h"
#include "../engine.hpp"
#include "safetensors.hpp"

namespace deeplight {

struct Loaded {
  Array about;
  Memory data;  // aligned to 64 bytes; of an array without bytes it is not NULL either
};
using Arrays = std::map<std::string, Loaded>;

// A model that points into its arrays.
struct Structure {
  dl_model model{};
  std::vector<std::string> names;
  std::vector<int32_t> sizes;
  std::vector<dl_layer> layers;
};

// Of a description's "structure" and the arrays; `out` must not move while its model is used. Throws Refused.
void read_structure(const json::Value &about, const Arrays &arrays, Structure &out);

// An array's data, if it is of this dtype and shape; `floats` are finite, too. Throws Refused.
const void *expect(const Arrays &arrays, const std::string &name, const char *dtype, const std::vector<int64_t> &shape);
const float *floats(const Arrays &arrays, const std::string &name, const std::vector<int64_t> &shape);

// The first axis of an array of which nothing else says how long it is. Throws Refused.
int64_t length(const Arrays &arrays, const std::string &name);

// The table of `rows` rows in the format that the description names. Throws Refused.
void read_table(const json::Value &about, const Arrays &arrays, int64_t rows, dl_model &model);

}  // namespace deeplight
