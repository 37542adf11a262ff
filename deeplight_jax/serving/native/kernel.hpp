// One vector level's kernels: included by level_*.cpp, in a namespace of its own, with DL_BYTES set to the
// level's native vector width. Wider vectors than the native ones would be lowered through memory.

typedef float vec __attribute__((vector_size(DL_BYTES)));
typedef float unaligned __attribute__((vector_size(DL_BYTES), aligned(4), may_alias));
typedef int32_t ints __attribute__((vector_size(DL_BYTES)));
constexpr int kLanes = DL_BYTES / 4;

static inline vec load(const float *p) { return *reinterpret_cast<const unaligned *>(p); }
static inline void store(float *p, vec x) { *reinterpret_cast<unaligned *>(p) = x; }
#if DL_BYTES == 64  // what the comparison below would take two steps for
static inline vec relu(vec x) { return reinterpret_cast<vec>(_mm512_max_ps(_mm512_setzero_ps(), reinterpret_cast<__m512>(x))); }
#else
static inline vec relu(vec x) { return vec{} > x ? vec{} : x; }  // NaN stays NaN
#endif

static inline vec only(vec x, const int32_t *mask) {
  return reinterpret_cast<vec>(reinterpret_cast<ints>(x) & reinterpret_cast<ints>(load(reinterpret_cast<const float *>(mask))));
}

// A step of a block is a function of its own: gcc allocates its registers, and a profile shows its time, apart.
#define DL_STAGE __attribute__((noinline)) static
#define DL_INLINE __attribute__((always_inline)) static inline

#include "decode.hpp"

template <int H, int... I>
static inline vec halve(vec x, std::integer_sequence<int, I...>) {
  return x + __builtin_shufflevector(x, x, ((I + H) % kLanes)...);
}

template <int H = kLanes / 2>
static inline float sum(vec x) {
  x = halve<H>(x, std::make_integer_sequence<int, kLanes>{});
  if constexpr (H > 1)
    return sum<H / 2>(x);
  else
    return x[0];
}

#include "fits.hpp"
#include "gather.hpp"

// One of four weights in every lane, from a vector of them all over.
template <int U, int... I>
static inline vec weight_of(vec weights, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(weights, weights, (I / 4 * 4 + U)...);
}

template <int NV>
static inline void add(vec (&acc)[NV], vec weight, const float *column) {
  for (int v = 0; v < NV; v++) acc[v] += weight * load(column + v * kLanes);
}

// kTogether units, U at a time, on NV vectors of rows of the block; done(unit, vec[NV]) has each.
template <int NV, int U, class Done>
DL_INLINE void units(const int32_t *at, const float *weight, const float *bias, int length, const float *x,
                         const Done &done) {
  constexpr auto lanes = std::make_integer_sequence<int, kLanes>{};
  const auto column = [=](int e) {
    const float *out = x + static_cast<ptrdiff_t>(at[e]) * (NV * kLanes / kScale);
    asm("" : "+r"(out));  // one address for NV loads
    return out;
  };
  for (int first = 0; first < kTogether; first += U) {
    vec acc[U][NV];
    for (int u = 0; u < U; u++)
      for (int v = 0; v < NV; v++) acc[u][v] = bias[first + u] - vec{};
    if constexpr (U == 4) {
      for (int e = 0; e < length * 4; e += 4) {
        const vec four_weights = everywhere(weight + e);
        add(acc[0], weight_of<0>(four_weights, lanes), column(e));
        add(acc[1], weight_of<1>(four_weights, lanes), column(e + 1));
        add(acc[2], weight_of<2>(four_weights, lanes), column(e + 2));
        add(acc[3], weight_of<3>(four_weights, lanes), column(e + 3));
      }
    } else {
      for (int e = first; e < length * kTogether; e += kTogether)
        for (int u = 0; u < U; u++) add(acc[u], weight[e + u] - vec{}, column(e + u));
    }
    for (int u = 0; u < U; u++) {
      for (int v = 0; v < NV; v++) acc[u][v] = relu(acc[u][v]);
      done(first + u, acc[u]);
    }
  }
}

// The units of a layer, done(unit, vec[NV]) has each; those that pad the last group, too.
template <int NV, class Done>
DL_INLINE void layer_of(const Groups &g, const float *x, const Done &done) {
  const int32_t *starts = g.starts.data(), *indices = g.indices.data();
  const float *values = g.values.data(), *bias = g.bias.data();
  for (int i = 0, count = g.count(); i < count; i++) {
    const ptrdiff_t start = static_cast<ptrdiff_t>(starts[i]) * kTogether;
    const int length = starts[i + 1] - starts[i], first = i * kTogether;
    units<NV, DL_UNITS>(indices + start, values + start, bias + first, length, x,
                        [&](int u, const vec(&unit)[NV]) { done(first + u, unit); });
  }
}

// What padding weights of the next layer read.
template <int NV>
static inline void store_zeros(float *column) {
  for (int v = 0; v < NV; v++) store(column + v * kLanes, vec{});
}

template <int NV>
DL_STAGE void hidden(const Layer &layer, const float *x, float *out) {
  layer_of<NV>(layer.together, x, [=](int u, const vec(&unit)[NV]) {
    for (int v = 0; v < NV; v++) store(out + (u * NV + v) * kLanes, unit[v]);
  });
  store_zeros<NV>(out + layer.together.count() * kTogether * NV * kLanes);
}

// The last layer, whose units go to the logits at once.
template <int NV>
DL_STAGE void last_hidden(const Layer &layer, const float *x, const float *output, vec (&sums)[NV]) {
  vec acc[NV];
  for (int v = 0; v < NV; v++) acc[v] = sums[v];
  layer_of<NV>(layer.together, x, [&](int u, const vec(&unit)[NV]) {
    for (int v = 0; v < NV; v++) acc[v] += output[u] * unit[v];
  });
  for (int v = 0; v < NV; v++) sums[v] = acc[v];
}

// FM's pairs pooled by dimension [dim, row]: half of (sum e)^2 - sum e^2.
template <int NV>
DL_STAGE void pool(const Plan &m, const float *z, float *out) {
  constexpr int kRows = NV * kLanes;
  for (int d = 0; d < m.dim; d++)
    for (int v = 0; v < NV; v++) {
      vec total{}, squares{};
      for (int i = 0; i < m.numeric; i++) {
        const vec e = m.numeric_rows[static_cast<ptrdiff_t>(i) * m.width + d] * load(z + i * kRows + v * kLanes);
        total += e, squares += e * e;
      }
      for (int c = 0; c < m.categorical; c++) {
        const vec e = load(z + (m.numeric + c * m.dim + d) * kRows + v * kLanes);
        total += e, squares += e * e;
      }
      store(out + d * kRows + v * kLanes, 0.5f * (total * total - squares));
    }
  store_zeros<NV>(out + m.dim * kRows);
}

// Value d of a field's embedding, for rows of the block.
template <int NV>
static inline vec value(const Plan &m, const float *z, int field, int d, int v) {
  constexpr int kRows = NV * kLanes;
  if (field >= m.numeric) return load(z + (m.numeric + (field - m.numeric) * m.dim + d) * kRows + v * kLanes);
  return m.numeric_rows[static_cast<ptrdiff_t>(field) * m.width + d] * load(z + field * kRows + v * kLanes);
}

// <e_i, e_j> of the field pairs that the net reads, [product, row].
template <int NV>
DL_STAGE void multiply(const Plan &m, const float *z, float *out) {
  for (size_t p = 0; p < m.products.size() / 2; p++)
    for (int v = 0; v < NV; v++) {
      vec total{};
      for (int d = 0; d < m.dim; d++)
        total += value<NV>(m, z, m.products[2 * p], d, v) * value<NV>(m, z, m.products[2 * p + 1], d, v);
      store(out + p * NV * kLanes + v * kLanes, total);
    }
  store_zeros<NV>(out + m.products.size() / 2 * NV * kLanes);
}

// z' Q z.
template <int NV>
DL_STAGE void quadratic(const Plan &m, const float *z, vec (&sums)[NV]) {
  const int32_t *indptr = m.quadratic.indptr.data(), *at = m.quadratic.indices.data(), *row = m.q_row.data();
  const float *weight = m.quadratic.values.data();
  vec acc[NV];
  for (int v = 0; v < NV; v++) acc[v] = sums[v];
  for (size_t q = 0, count = m.q_row.size(); q < count; q++) {
    vec t[NV] = {};
    for (int e = indptr[q]; e < indptr[q + 1]; e++) add(t, weight[e] - vec{}, z + at[e] * (NV * kLanes));
    for (int v = 0; v < NV; v++) acc[v] += t[v] * load(z + (row[q] * NV + v) * kLanes);
  }
  for (int v = 0; v < NV; v++) sums[v] = acc[v];
}

template <int NV>
static void block_of(const Plan &m, float *scratch, const int32_t *ids, const float *values, int rows,
                     const int32_t *next, int next_rows, float *logits) {
  constexpr int kRows = NV * kLanes;
  float *z = scratch, *pooled = z + std::max(m.inputs, m.widest + kTogether) * kRows;
  float *products = pooled + (m.dim + 1) * kRows, *one = products + (m.products.size() / 2 + 1) * kRows;
  float *decoded = one + (m.widest + kTogether) * kRows;
  fetch_starts(m, next, next_rows);
  if (rows < kRows) {  // the last one's cells stand in for those that are missing
    int32_t *cells = reinterpret_cast<int32_t *>(decoded + kLanes * m.width);
    float *numbers = decoded + kLanes * m.width + kRows * m.categorical;
    for (int r = 0; r < kRows; r++) {
      const int from = r < rows ? r : rows - 1;
      std::copy_n(ids + from * m.categorical, m.categorical, cells + r * m.categorical);
      std::copy_n(values + from * m.numeric, m.numeric, numbers + r * m.numeric);
    }
    ids = cells, values = numbers;
  }
  vec acc[NV];
  for (int v = 0; v < NV; v++) acc[v] = m.bias - vec{};
  gather<NV>(m, ids, values, decoded, z, acc);
  fetch_rows(m, next, next_rows);
  quadratic<NV>(m, z, acc);
  if (m.all_pairs || m.net_input == DL_NET_POOLED) pool<NV>(m, z, pooled);
  if (m.all_pairs)
    for (int d = 0; d < m.dim; d++)
      for (int v = 0; v < NV; v++) acc[v] += load(pooled + d * kRows + v * kLanes);
  if (m.net_input == DL_NET_PRODUCTS) multiply<NV>(m, z, products);
  const float *x = m.net_input == DL_NET_POOLED ? pooled : m.net_input == DL_NET_PRODUCTS ? products : z;
  const int layers = static_cast<int>(m.layers.size());
  for (int i = 0; i < layers - 1; i++) {
    float *out = x == one ? z : one;
    hidden<NV>(m.layers[i], x, out);
    x = out;
  }
  if (layers)
    last_hidden<NV>(m.layers.back(), x, m.output.data(), acc);
  else
    for (int u = 0; u < m.net_inputs; u++) add(acc, m.output[u] - vec{}, x + u * kRows);
  for (int v = 0; v < NV; v++)
    for (int j = 0; j < kLanes && v * kLanes + j < rows; j++) logits[v * kLanes + j] = acc[v][j];
}

static void block(const Plan &m, float *scratch, const int32_t *ids, const float *values, int rows,
                  const int32_t *next, int next_rows, float *logits) {
  if (rows <= kBlock / 2)
    block_of<kBlock / 2 / kLanes>(m, scratch, ids, values, rows, next, next_rows, logits);
  else
    block_of<kBlock / kLanes>(m, scratch, ids, values, rows, next, next_rows, logits);
}

// Inputs from four places, whose indices are loaded two at a time: loads are what these kernels wait for.
static inline four pick(const float *x, const int32_t *at) {
  uint64_t two[2];
  std::memcpy(two, at, sizeof two);
  for (uint64_t &both : two)
    if (kBigEndian) both = both << 32 | both >> 32;
  return four{x[two[0] & 0xffffffff], x[two[0] >> 32], x[two[1] & 0xffffffff], x[two[1] >> 32]};
}

// Four units beside each other in a vector whose lanes are loaded one by one, which beats the vector gathers of
// today's processors; kChains units at a time.
DL_SCALAR static void hidden_single(const Layer &layer, const float *x, float *out) {
  const Groups &g = layer.alone;
  const int32_t *at = g.indices.data();
  const float *weight = g.values.data(), *bias = g.bias.data();
  for (int i = 0, count = g.count(); i < count; i++, bias += kChains, out += kChains) {
    four acc[kChains / 4];
    for (int u = 0; u < kChains / 4; u++) acc[u] = load_four(bias + 4 * u);
    for (int e = g.starts[i + 1] - g.starts[i]; e > 0; e--, at += kChains, weight += kChains)
      for (int u = 0; u < kChains / 4; u++) acc[u] += load_four(weight + 4 * u) * pick(x, at + 4 * u);
    for (int u = 0; u < kChains / 4; u++)
      *reinterpret_cast<four_unaligned *>(out + 4 * u) = four{} > acc[u] ? four{} : acc[u];  // NaN stays NaN
  }
  for (int u = 0; u < kLanes; u++) out[u] = 0;  // what whole vectors of outputs and padding weights read
}

// Pairs and crosses of a single row, whose embeddings stand `width` apart with zeros behind their values.
static float single_pairs(const Plan &m, const float *z, vec &acc) {
  float rest = 0;
  vec sums[4] = {};  // one alone would wait for itself
  for (size_t p = 0; p < m.pairs.size() / 2; p++)
    for (int i = 0; i < m.dim; i += kLanes)
      sums[p % 4] += load(&m.pair_values[p * m.width + i]) * load(z + m.single_field(m.pairs[2 * p]) + i) *
                     load(z + m.single_field(m.pairs[2 * p + 1]) + i);
  for (size_t c = 0; c < m.crossed.size() / 2; c++)
    for (int i = 0; i < m.dim; i += kLanes)
      sums[c % 4] += z[m.crossed[2 * c]] * load(&m.crossed_values[c * m.width + i]) *
                     load(z + m.single_field(m.crossed[2 * c + 1]) + i);
  acc += sums[0] + sums[1] + (sums[2] + sums[3]);
  for (size_t q = 0; q < m.rest_row.size(); q++)
    for (int e = m.rest.indptr[q]; e < m.rest.indptr[q + 1]; e++)
      rest += z[m.rest_row[q]] * m.rest.values[e] * z[m.rest.indices[e]];
  return rest;
}

static void pool_single(const Plan &m, const float *z, float *out) {
  for (int i = 0; i < m.width; i += kLanes) {
    vec total{}, squares{};
    for (int f = 0; f < m.numeric; f++) {
      const vec e = only(z[f] * load(&m.numeric_rows[static_cast<ptrdiff_t>(f) * m.width + i]), &m.embedding_mask[i]);
      total += e, squares += e * e;
    }
    for (int c = 0; c < m.categorical; c++) {
      const vec e = load(z + m.single_field(c) + i);
      total += e, squares += e * e;
    }
    store(out + i, 0.5f * (total * total - squares));
  }
}

static void single(const Plan &m, float *scratch, const int32_t *ids, const float *values, float *logit) {
  if (m.net_input == DL_NET_PRODUCTS) return block(m, scratch, ids, values, 1, ids, 0, logit);
  float *z = scratch, *pooled = z + m.single_field(m.categorical), *one = pooled + m.width;
  float *other = one + m.widest + kSlack, total = m.bias;
  if (m.format == DL_TABLE_PACKED)
    for (int c = 0; c < m.categorical; c++) DL_PREFETCH_ROW(m, c, ids[c], 3);
  for (int i = 0; i < m.numeric; i++) {
    z[i] = values[i];
    total += values[i] * m.numeric_rows[static_cast<ptrdiff_t>(i) * m.width + m.dim];
  }
  vec acc{};
  for (int c = 0; c < m.categorical; c++) {
    const char *place = m.row(c, ids[c]);
    float *own = z + m.single_field(c);
    if (m.format != DL_TABLE_F32) {  // to where it is read: what was stored value by value is slow to read at once
      decode(m, place, own);
      total += own[m.dim];
      own[m.dim] = 0;
      continue;
    }
    const float *row = reinterpret_cast<const float *>(place);
    total += row[m.dim];
    for (int i = 0; i < m.width; i += kLanes) store(own + i, only(load(row + i), &m.embedding_mask[i]));
  }
  total += single_pairs(m, z, acc);
  if (m.all_pairs || m.net_input == DL_NET_POOLED) pool_single(m, z, pooled);
  if (m.all_pairs)
    for (int d = 0; d < m.dim; d++) total += pooled[d];
  const float *x = m.net_input == DL_NET_POOLED ? pooled : z;
  for (const Layer &layer : m.layers) {
    float *out = x == one ? other : one;
    hidden_single(layer, x, out);
    x = out;
  }
  if (m.layers.empty()) {
    for (int u = 0; u < m.net_inputs; u++)
      total += m.output[u] * x[m.net_input == DL_NET_INPUTS ? m.single_input(u) : u];
  } else {
    const int count = m.layers.back().alone.count() * kChains;
    for (int i = 0; i < count; i += kLanes) acc += load(&m.output[i]) * load(x + i);
  }
  *logit = total + sum(acc);
}
