// Checks a model and lays it out for the kernels.
#include "plan.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <unordered_map>

#include "deeplight.h"

namespace deeplight {
namespace {

void expect(bool holds, const char *what) { if (!holds) throw Bad{what}; }

void check(const dl_csr &m, int64_t rows, int64_t columns, const char *name) {
  expect(m.rows == rows && m.columns == columns && m.entries >= 0 && m.indptr, name);
  expect(!m.entries || (m.indices && m.values), name);
  expect(m.indptr[0] == 0 && m.indptr[rows] == m.entries, name);
  for (int64_t r = 0; r < rows; r++) expect(m.indptr[r] <= m.indptr[r + 1] && m.indptr[r + 1] <= m.entries, name);
  for (int64_t e = 0; e < m.entries; e++)
    expect(m.indices[e] >= 0 && m.indices[e] < columns && std::isfinite(m.values[e]), name);
}

int64_t net_inputs(const dl_model &m, int64_t inputs) {
  switch (m.net_input) {
    case DL_NET_NONE: return 0;
    case DL_NET_INPUTS: return inputs;
    case DL_NET_POOLED: return m.dim;
    case DL_NET_PRODUCTS: return m.products;
    default: throw Bad{"net_input is none of DL_NET_..."};
  }
}

// Order of rows by their count of entries.
std::vector<int32_t> by_length(const dl_csr &m) {
  std::vector<int32_t> order(m.rows);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return m.indptr[a + 1] - m.indptr[a] < m.indptr[b + 1] - m.indptr[b];
  });
  return order;
}

// The given rows in the given order.
Rows take(const dl_csr &m, const std::vector<int32_t> &order) {
  Rows out;
  out.indptr.push_back(0);
  for (int32_t r : order) {
    for (int32_t e = m.indptr[r]; e < m.indptr[r + 1]; e++) {
      out.indices.push_back(m.indices[e]);
      out.values.push_back(m.values[e]);
    }
    out.indptr.push_back(static_cast<int32_t>(out.indices.size()));
  }
  return out;
}

// Units in groups of `lanes`; what fills a group up has weight 0 and reads input `zero`, for 0 times infinity is no 0.
Groups group(const Rows &rows, const std::vector<float> &bias, const std::vector<int32_t> &place, int lanes,
             int32_t zero) {
  Groups out;
  out.starts.push_back(0);
  for (int first = 0; first < rows.count(); first += lanes) {
    const int last = std::min(first + lanes, rows.count()) - 1;
    const int length = rows.indptr[last + 1] - rows.indptr[last];  // sorted: the longest
    const size_t before = out.indices.size();
    out.indices.resize(before + static_cast<size_t>(length) * lanes, zero);
    out.values.resize(out.indices.size());
    out.bias.resize(out.bias.size() + lanes);
    for (int u = first; u <= last; u++) {
      out.bias[u] = bias[u];
      for (int e = rows.indptr[u]; e < rows.indptr[u + 1]; e++) {
        const size_t at = before + static_cast<size_t>(e - rows.indptr[u]) * lanes + (u - first);
        out.indices[at] = place[rows.indices[e]];
        out.values[at] = rows.values[e];
      }
    }
    out.starts.push_back(out.starts.back() + length);
  }
  return out;
}

void plan_layers(const dl_model &m, Plan &p) {
  std::vector<int32_t> place(p.net_inputs), single(p.net_inputs);  // of the inputs, in a block and alone
  std::iota(place.begin(), place.end(), 0);
  single = place;
  if (m.net_input == DL_NET_INPUTS)
    for (int32_t &at : single) at = p.single_input(at);
  // an input that is 0, or finite: behind the last one the kernels write zeros, and a row's own inputs are finite
  int32_t zero = m.net_input == DL_NET_INPUTS ? 0 : p.net_inputs, zero_single = zero;
  for (int i = 0; i < m.layers; i++) {
    const dl_layer &layer = m.layer[i];
    const std::vector<int32_t> order = by_length(layer.weights);
    const Rows rows = take(layer.weights, order);
    std::vector<float> bias;
    for (int32_t u : order) bias.push_back(layer.bias[u]);
    for (int32_t &at : place) at *= kScale;
    p.layers.push_back({group(rows, bias, place, kTogether, zero * kScale),
                        group(rows, bias, single, kChains, zero_single)});
    zero = p.layers.back().together.count() * kTogether, zero_single = p.layers.back().alone.count() * kChains;
    place.assign(order.size(), 0);
    for (size_t u = 0; u < order.size(); u++) place[order[u]] = static_cast<int32_t>(u);
    single = place;  // of hidden units it is the same
    p.widest = std::max(p.widest, static_cast<int>(order.size()));
  }
  p.output.assign((place.size() + 15) / 16 * 16, 0.0f);
  for (size_t u = 0; u < place.size(); u++) p.output[place[u]] = m.output[u];
}

// Values of pairs of fields, gathered from Q's entries.
struct Joined {
  std::vector<int32_t> &fields;  // [joined, 2]
  std::vector<float> &values;    // [joined, width]
  std::unordered_map<int64_t, size_t> place{};  // by first << 32 | second

  void add(int first, int second, int value, int width, float weight) {
    const auto [at, added] = place.try_emplace(int64_t{first} << 32 | second, fields.size() / 2);
    if (added) {
      fields.insert(fields.end(), {first, second});
      values.resize(values.size() + width);
    }
    values[at->second * width + value] += weight;
  }
};

void plan_quadratic(const dl_model &m, Plan &p) {
  std::vector<int32_t> rows;
  for (int r = 0; r < m.quadratic.rows; r++)
    if (m.quadratic.indptr[r] < m.quadratic.indptr[r + 1]) rows.push_back(r);
  p.q_row = by_length(m.quadratic);  // a row as long as that before it is no surprise to the processor
  p.q_row.erase(p.q_row.begin(), p.q_row.end() - static_cast<ptrdiff_t>(rows.size()));
  p.quadratic = take(m.quadratic, p.q_row);
  p.rest.indptr.push_back(0);
  Joined pairs{p.pairs, p.pair_values}, crossed{p.crossed, p.crossed_values};
  for (int32_t r : rows) {
    const size_t before = p.rest.indices.size();
    for (int e = m.quadratic.indptr[r]; e < m.quadratic.indptr[r + 1]; e++) {
      const int32_t column = m.quadratic.indices[e], own = r - p.numeric, other = column - p.numeric;
      const float weight = m.quadratic.values[e];
      if (own < 0 && other >= 0) {
        crossed.add(r, other / p.dim, other % p.dim, p.width, weight);
      } else if (own >= 0 && other >= 0 && own % p.dim == other % p.dim) {
        pairs.add(own / p.dim, other / p.dim, own % p.dim, p.width, weight);
      } else {
        p.rest.indices.push_back(p.single_input(column));
        p.rest.values.push_back(weight);
      }
    }
    if (p.rest.indices.size() > before) {
      p.rest_row.push_back(p.single_input(r));
      p.rest.indptr.push_back(static_cast<int32_t>(p.rest.indices.size()));
    }
  }
}

int64_t stride_bytes(const dl_model &m) {
  const int64_t dim = m.dim;
  switch (m.table_format) {
    case DL_TABLE_F32: return 4 * static_cast<int64_t>(m.width);
    case DL_TABLE_BF16: return (dim + 1 + 15) / 16 * 32;
    case DL_TABLE_INT8: return (dim + 4 + 15) / 16 * 16;
    default: return 0;
  }
}

// Every packed row holds as many words as its bits say.
void check_packed(const dl_model &m, int64_t rows) {
  constexpr const char *what = "the packed table points outside itself";
  const auto *words = static_cast<const uint32_t *>(m.table);
  const uint32_t *index = m.table_index, masks = static_cast<uint32_t>(m.dim) / 32 + 1;
  const uint32_t unused = (m.dim + 1) % 32 ? ~0u << (m.dim + 1) % 32 : 0;
  expect(index && index[0] == 0, what);
  for (int64_t r = 0; r < rows; r++) {
    expect(index[r] <= index[r + 1] && index[r + 1] <= index[rows] && index[r + 1] - index[r] >= masks, what);
    uint32_t count = masks;
    for (uint32_t i = 0; i < masks; i++) count += static_cast<uint32_t>(__builtin_popcount(words[index[r] + i]));
    expect(index[r + 1] - index[r] == count && !(words[index[r] + masks - 1] & unused), what);
  }
}

void plan_table(const dl_model &m, Plan &p) {
  p.format = m.table_format, p.index = m.table_index, p.stride = stride_bytes(m);
  p.table = static_cast<const char *>(m.table);
}

// The categorical fields but the smallest, whose rows make up kNearBytes together.
std::vector<int32_t> far_fields(const Plan &p) {
  std::vector<int32_t> order(p.categorical);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return p.sizes[a] < p.sizes[b]; });
  int64_t bytes = 0;
  const auto first = std::find_if(order.begin(), order.end(), [&](int32_t c) {
    return (bytes += p.sizes[c] * p.row_bytes()) > kNearBytes;
  });
  std::vector<int32_t> out(first, order.end());
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace

void check(const dl_model &m) {
  constexpr int64_t kMost = 1 << 24;  // fields, values, units: far above any model, far below overflow
  expect(m.numeric >= 0 && m.categorical >= 0 && m.dim >= 0 && m.products >= 0 && m.layers >= 0, "a negative size");
  expect(m.numeric < kMost && m.categorical < kMost && m.dim < kMost && m.products < kMost, "a size is too large");
  expect(m.numeric + m.categorical > 0 && m.table, "no field or no table");
  expect(m.width % 16 == 0 && m.width > m.dim && m.width < kMost, "width is no multiple of 16 above dim");
  const int64_t inputs = m.numeric + static_cast<int64_t>(m.categorical) * m.dim;
  expect(inputs < kMost, "too many inputs");
  expect(static_cast<int64_t>(m.categorical) * m.width < 16 * kMost, "rows too wide for so many fields");
  expect(!m.categorical || m.sizes, "no sizes");
  int64_t rows = m.numeric;
  for (int c = 0; c < m.categorical; c++) {
    expect(m.sizes[c] > 0, "a field without table rows");
    rows += m.sizes[c];
  }
  expect(m.table_format >= DL_TABLE_F32 && m.table_format <= DL_TABLE_PACKED, "table_format is none of DL_TABLE_...");
  if (m.table_format == DL_TABLE_PACKED) check_packed(m, rows);
  check(m.quadratic, inputs, inputs, "quadratic points outside itself");
  expect(!m.products || m.product_fields, "no product_fields");
  for (int i = 0; i < 2 * m.products; i++)
    expect(m.product_fields[i] >= 0 && m.product_fields[i] < m.numeric + m.categorical, "products name no field");
  int64_t last = net_inputs(m, inputs);
  expect(!m.layers || m.layer, "no layer");
  for (int i = 0; i < m.layers; i++) {
    const dl_csr &w = m.layer[i].weights;
    expect(w.rows > 0 && w.rows < kMost && m.layer[i].bias, "a layer without units");
    check(w, w.rows, last, "a layer points outside itself");
    last = w.rows;
  }
  expect(m.outputs == last && (!last || m.output), "outputs are not the last layer's units");
}

Plan make_plan(const dl_model &m) {
  Plan p;
  p.numeric = m.numeric, p.categorical = m.categorical, p.dim = m.dim, p.width = m.width;
  p.inputs = m.numeric + m.categorical * m.dim;
  p.net_input = m.net_input, p.net_inputs = static_cast<int>(net_inputs(m, p.inputs));
  p.all_pairs = m.all_pairs, p.bias = m.bias;
  plan_table(m, p);
  p.single_start = (m.numeric + 15) / 16 * 16;
  p.embedding_mask.assign(m.width, 0), p.linear_mask.assign(m.width, 0);
  p.linear_mask[m.dim] = -1;
  std::fill_n(p.embedding_mask.begin(), m.dim, -1);
  int64_t row = m.numeric;
  for (int c = 0; c < m.categorical; c++) {
    p.sizes.push_back(m.sizes[c]);
    p.offsets.push_back(row);
    row += m.sizes[c];
  }
  p.far = far_fields(p);
  p.products.assign(m.product_fields, m.product_fields + 2 * m.products);
  plan_layers(m, p);
  plan_quadratic(m, p);
  return p;
}

size_t Plan::scratch_floats() const {
  const size_t net = dim + 1 + products.size() / 2 + 1 + widest + kTogether;
  const size_t block = kBlock * (std::max(inputs, widest + kTogether) + net);
  const size_t alone = single_field(categorical) + width + 2 * (static_cast<size_t>(widest) + kSlack);
  return std::max(block + kBlock * (static_cast<size_t>(categorical) + numeric), alone) +
         16 * static_cast<size_t>(width) + 64;  // a vector's rows, decoded
}

}  // namespace deeplight
