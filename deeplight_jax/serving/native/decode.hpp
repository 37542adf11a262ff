// Table rows as floats: included by kernel.hpp, for its vector level. Written are dim + 1 values and what fills them up
// to a multiple of 16.

// A float by its upper 16 bits.
static inline float widen(uint16_t upper) {
  const uint32_t bits = static_cast<uint32_t>(upper) << 16;
  float out;
  std::memcpy(&out, &bits, sizeof out);
  return out;
}

static inline void decode_bf16(const Plan &m, const char *row, float *out) {
  for (int first = 0; first <= m.dim; first += 16) {  // a fixed length, which becomes vectors
    uint16_t upper[16];
    uint32_t bits[16];
    std::memcpy(upper, row + 2 * first, sizeof upper);
    for (int i = 0; i < 16; i++) bits[i] = static_cast<uint32_t>(upper[i]) << 16;
    std::memcpy(out + first, bits, sizeof bits);
  }
}

static inline void decode_int8(const Plan &m, const char *row, float *out) {
  typedef int8_t bytes __attribute__((vector_size(kLanes)));
  uint16_t head[2];
  std::memcpy(head, row + m.stride - sizeof head, sizeof head);
  const float scale = widen(head[0]);
  for (int first = 0; first < (m.dim + 16) / 16 * 16; first += kLanes) {
    bytes steps;
    std::memcpy(&steps, row + first, sizeof steps);
    const vec values = scale * __builtin_convertvector(steps, vec), linear = widen(head[1]) - vec{};
    store(out + first, only(values, &m.embedding_mask[first]) + only(linear, &m.linear_mask[first]));
  }
}

static inline void decode_packed(const Plan &m, const char *row, float *out) {
  const char *value = row + (m.dim / 32 + 1) * 4;
#if DL_BYTES == 64
  for (int first = 0; first < m.width; first += 16) {
    uint32_t mask = 0;
    if (first <= m.dim) std::memcpy(&mask, row + first / 32 * 4, sizeof mask);
    mask = mask >> (first % 32) & 0xffff;
    _mm512_storeu_ps(out + first, _mm512_maskz_expandloadu_ps(static_cast<__mmask16>(mask), value));
    value += 4 * __builtin_popcount(mask);
  }
#else  // without branches: a value that is not there is read as its successor, or the word behind the last, and blanked
  for (int i = 0; i < m.width; i++) {
    uint32_t bits = 0, there = 0;
    if (i <= m.dim) {
      std::memcpy(&there, row + i / 32 * 4, sizeof there);
      std::memcpy(&bits, value, sizeof bits);
    }
    there = there >> (i % 32) & 1;
    bits &= 0u - there;
    std::memcpy(out + i, &bits, sizeof bits);
    value += 4 * there;
  }
#endif
}

// A call of its own: inlined, it takes the registers of those who read floats as they lie.
__attribute__((noinline)) static void decode(const Plan &m, const char *row, float *out) {
  switch (m.format) {
    case DL_TABLE_BF16: return decode_bf16(m, row, out);
    case DL_TABLE_INT8: return decode_int8(m, row, out);
    case DL_TABLE_PACKED: return decode_packed(m, row, out);
    default: std::memcpy(out, row, sizeof(float) * static_cast<size_t>(m.width));
  }
}
