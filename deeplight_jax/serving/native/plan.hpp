// What the kernels read: the model laid out for blocks of rows and for single rows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "deeplight.h"

#if defined(__clang__)
#define DL_SCALAR
#else
#define DL_SCALAR __attribute__((optimize("no-tree-vectorize", "no-tree-slp-vectorize")))
#endif

namespace deeplight {

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
constexpr bool kBigEndian = true;
#else
constexpr bool kBigEndian = false;
#endif

constexpr int kBlock = 32;      // rows of a block, its activations [unit, row]
constexpr int kScale = 16;      // inputs' indices for blocks are multiplied by: floats of half a block's column
constexpr int kTogether = 4;    // units that a block's kernel sums up together
constexpr int kChains = 8;      // the same of a single row's kernel
constexpr int kSlack = 32;      // floats behind a single row's activations: a group and a vector
constexpr int kThreadRows = 1024;  // a thread is not worth starting for fewer
constexpr int kNearBytes = 128 << 10;  // so many of table rows stay in the second cache by themselves
constexpr int kSingleRows = 3;  // up to so many rows are scored one by one

// A sparse matrix by rows.
struct Rows {
  std::vector<int32_t> indptr, indices;
  std::vector<float> values;
  int count() const { return static_cast<int>(indptr.size()) - 1; }
};

// A layer's units, sorted by their count of entries, in groups as wide as a kernel sums up together; a group is
// padded with weights of 0 to its longest unit and lies as [entry, unit].
struct Groups {
  std::vector<int32_t> starts;  // [group + 1], in entries of a whole group
  std::vector<int32_t> indices;
  std::vector<float> values, bias;
  int count() const { return static_cast<int>(starts.size()) - 1; }
};

struct Layer {
  Groups together, alone;  // for blocks of rows and for single ones: of kTogether and of kChains units
};

struct Plan {
  int numeric = 0, categorical = 0, dim = 0, width = 0, inputs = 0, net_input = 0, net_inputs = 0;
  bool all_pairs = false;
  float bias = 0;
  int format = DL_TABLE_F32;
  const char *table = nullptr;        // rows of `stride` bytes; packed ones begin at 4 * index[row]
  const uint32_t *index = nullptr;
  int64_t stride = 0;
  std::vector<float> numeric_rows;  // [numeric, width], rows of the numeric fields as floats
  std::vector<int32_t> sizes;
  std::vector<int64_t> offsets;  // first table row of each categorical field
  std::vector<int32_t> far;      // categorical fields whose table rows the cache does not keep by itself

  std::vector<int32_t> products;  // [product, 2]
  std::vector<Layer> layers;
  std::vector<float> output;  // padded with zeros to a multiple of 16
  int widest = 0;             // units of the widest layer
  std::vector<int32_t> embedding_mask, linear_mask;  // [width], all bits of the lanes wanted

  // z' Q z by rows for blocks; q_row names the input that scales each.
  Rows quadratic;
  std::vector<int32_t> q_row;
  // The same for single rows, whose inputs lie at: numeric i at i, value d of field c at single_field(c) + d.
  std::vector<int32_t> pairs;         // [pair, 2]: two categorical fields, value by value
  std::vector<float> pair_values;     // [pair, width]
  std::vector<int32_t> crossed;       // [cross, 2]: a numeric and a categorical field
  std::vector<float> crossed_values;  // [cross, width]
  Rows rest;                          // what is neither
  std::vector<int32_t> rest_row;
  int single_start = 0;  // of the embeddings, a multiple of 16
  int single_field(int c) const { return single_start + c * width; }
  int single_input(int z) const {  // place of input z of a block
    return z < numeric ? z : single_field((z - numeric) / dim) + (z - numeric) % dim;
  }

  size_t scratch_floats() const;

  const char *row_at(int64_t at) const {
    return table + (format == DL_TABLE_PACKED ? 4 * static_cast<int64_t>(index[at]) : at * stride);
  }
  const char *row(int c, int32_t id) const { return row_at(offsets[c] + id); }
  const uint32_t *index_of(int c, int32_t id) const { return index + offsets[c] + id; }
  // Bytes of a row, of a packed one at most.
  int64_t row_bytes() const {
    const int64_t values = 4 * (static_cast<int64_t>(dim) + 1);
    return format == DL_TABLE_F32 ? values : format == DL_TABLE_PACKED ? values + 4 * (dim / 32 + 1) : stride;
  }
};

struct Bad { std::string what; };  // a model that points outside itself

void check(const dl_model &);  // throws Bad
Plan make_plan(const dl_model &);  // of a checked model

// A vector level. `rows` is at most kBlock for `block`; `next` are the ids of the rows scored after these.
struct Level {
  const char *name;
  void (*block)(const Plan &, float *scratch, const int32_t *ids, const float *values, int rows,
                const int32_t *next, int next_rows, float *logits);
  void (*single)(const Plan &, float *scratch, const int32_t *ids, const float *values, float *logit);
  void (*decode)(const Plan &, const char *row, float *out);  // [width]
  bool (*fits)(const Plan &, const int32_t *ids, const float *values, int rows);  // can be scored
};

extern const Level kPortable;
#if defined(__x86_64__)
extern const Level kAvx2, kAvx512;
#endif

}  // namespace deeplight
