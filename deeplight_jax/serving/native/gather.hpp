// A block's inputs from its rows: included by kernel.hpp, for its vector level.

typedef float four __attribute__((vector_size(16)));
typedef float four_unaligned __attribute__((vector_size(16), aligned(4), may_alias));

static inline four load_four(const float *p) { return *reinterpret_cast<const four_unaligned *>(p); }

constexpr int kQuads = kLanes / 4;  // fours of a vector

// Four floats of each place beside each other.
static inline vec beside(const float *const (&place)[kQuads], int at) {
#if DL_BYTES == 16
  return load_four(place[0] + at);
#else
  const auto two = [=](int k) {
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(place[k] + at)), _mm_loadu_ps(place[k + 1] + at), 1);
  };
#if DL_BYTES == 32
  return reinterpret_cast<vec>(two(0));
#else
  return reinterpret_cast<vec>(_mm512_insertf32x8(_mm512_castps256_ps512(two(0)), two(2), 1));
#endif
#endif
}

// The same four floats all over.
static inline vec everywhere(const float *p) {
#if DL_BYTES == 16
  return load_four(p);
#elif DL_BYTES == 32
  return reinterpret_cast<vec>(_mm256_broadcast_ps(reinterpret_cast<const __m128 *>(p)));
#else
  return reinterpret_cast<vec>(_mm512_broadcast_f32x4(_mm_loadu_ps(p)));
#endif
}

// Within each four: the lower (H = 0) or the upper (H = 2) floats of two vectors in turn; their lower or upper halves.
template <int H, int... I>
static inline vec in_turn(vec a, vec b, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(a, b, (I / 4 * 4 + H + I % 4 / 2 + I % 2 * kLanes)...);
}

template <int H, int... I>
static inline vec halves(vec a, vec b, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(a, b, (I / 4 * 4 + H + I % 2 + I % 4 / 2 * kLanes)...);
}

// Q times four values of kLanes rows, as [value, row]; row(j) is where row j's lie.
template <int Q, class Row>
static inline void columns(const Row &row, vec (&x)[4 * Q]) {
  constexpr auto lanes = std::make_integer_sequence<int, kLanes>{};
  for (int i = 0; i < 4; i++) {
    const float *place[kQuads];
    for (int k = 0; k < kQuads; k++) place[k] = row(4 * k + i);
    for (int q = 0; q < Q; q++) x[4 * q + i] = beside(place, 4 * q);
  }
  for (int q = 0; q < Q; q++) {
    vec *y = x + 4 * q;
    const vec a = in_turn<0>(y[0], y[1], lanes), b = in_turn<2>(y[0], y[1], lanes);
    const vec c = in_turn<0>(y[2], y[3], lanes), d = in_turn<2>(y[2], y[3], lanes);
    y[0] = halves<0>(a, c, lanes), y[1] = halves<2>(a, c, lanes);
    y[2] = halves<0>(b, d, lanes), y[3] = halves<2>(b, d, lanes);
  }
}

// Values `first` on of a field's table rows, to z [value, row]; its linear value, if it is among them, to the logits.
template <int NV, int Q, class Row>
static inline void take(const Row &row, int first, int dim, float *z, vec &acc) {
  vec x[4 * Q];
  columns<Q>([&](int j) { return row(j) + first; }, x);
  for (int j = 0; j < 4 * Q; j++)
    if (j < 4 * Q - 4 || first + j < dim)
      store(z + (first + j) * (NV * kLanes), x[j]);
    else if (first + j == dim)
      acc += x[j];
}

// The same of all of its values.
template <int NV, class Row>
static inline void take_all(const Row &row, int dim, float *z, vec &acc) {
  constexpr int most = 3;
  int first = 0;
  for (; first + 4 * most <= dim; first += 4 * most) take<NV, most>(row, first, dim, z, acc);
  switch ((dim - first) / 4) {
    case 0: return take<NV, 1>(row, first, dim, z, acc);
    case 1: return take<NV, 2>(row, first, dim, z, acc);
    default: return take<NV, 3>(row, first, dim, z, acc);
  }
}

// Numeric fields' values.
template <int NV>
DL_STAGE void take_values(const float *values, int count, float *z) {
  constexpr int kRows = NV * kLanes;
  for (int v = 0; v < NV; v++, values += kLanes * count, z += kLanes) {
    int first = 0;
    for (; first + 4 <= count; first += 4) {
      vec x[4];
      columns<1>([&](int j) { return values + j * count + first; }, x);
      for (int j = 0; j < 4; j++) store(z + (first + j) * kRows, x[j]);
    }
    for (; first < count; first++)
      for (int j = 0; j < kLanes; j++) z[first * kRows + j] = values[j * count + first];
  }
}

// Inputs z [input, row] of the block's rows, and what table and values add to the logits.
template <int NV>
DL_STAGE void gather(const Plan &m, const int32_t *ids, const float *values, float *decoded, float *z, vec (&sums)[NV]) {
  constexpr int kRows = NV * kLanes;
  const int numeric = m.numeric, fields = m.categorical, dim = m.dim, width = m.width;
  const bool as_it_lies = m.format == DL_TABLE_F32;
  const int64_t stride = m.stride;
  vec acc[NV];
  for (int v = 0; v < NV; v++) acc[v] = sums[v];
  take_values<NV>(values, numeric, z);
  for (int i = 0; i < numeric; i++)
    for (int v = 0; v < NV; v++)
      acc[v] += m.numeric_rows[static_cast<ptrdiff_t>(i) * width + dim] * load(z + i * kRows + v * kLanes);
  for (int c = 0; c < fields; c++) {
    float *field = z + (numeric + c * dim) * kRows;
    const char *table = m.table + m.offsets[c] * stride;
    for (int v = 0; v < NV; v++) {
      const int32_t *own = ids + v * kLanes * fields + c;
      if (as_it_lies) {
        const auto row = [=](int j) { return reinterpret_cast<const float *>(table + own[j * fields] * stride); };
        take_all<NV>(row, dim, field + v * kLanes, acc[v]);
      } else {
        for (int j = 0; j < kLanes; j++) decode(m, m.row(c, own[j * fields]), decoded + j * width);
        take_all<NV>([=](int j) { return decoded + j * width; }, dim, field + v * kLanes, acc[v]);
      }
    }
  }
  for (int v = 0; v < NV; v++) sums[v] = acc[v];
}
