// Table rows as floats: included by plan.cpp, and by kernel.hpp for its vector level.

// A float by its upper 16 bits.
static inline float widen(uint16_t upper) {
  const uint32_t bits = static_cast<uint32_t>(upper) << 16;
  float out;
  std::memcpy(&out, &bits, sizeof out);
  return out;
}

static inline void decode_bf16(const char *row, int count, float *out) {
  for (int i = 0; i < count; i++) {
    uint16_t upper;
    std::memcpy(&upper, row + 2 * i, sizeof upper);
    out[i] = widen(upper);
  }
}

static inline void decode_int8(const char *row, int dim, float *out) {
  uint16_t head[2];
  std::memcpy(head, row, sizeof head);
  const float scale = widen(head[0]);
  for (int d = 0; d < dim; d++) out[d] = scale * static_cast<float>(static_cast<int8_t>(row[4 + d]));
  out[dim] = widen(head[1]);
}

// Without branches: a value that is not there is read as its successor, which the words of the next row or the
// one zero word behind the last row hold, and blanked out.
static inline void decode_packed(const char *row, int count, float *out) {
  const char *value = row + (count + 31) / 32 * 4;
  for (int first = 0; first < count; first += 32, row += 4) {
    uint32_t mask;
    std::memcpy(&mask, row, sizeof mask);
    for (int i = first; i < count && i < first + 32; i++, mask >>= 1) {
      const uint32_t there = mask & 1;
      uint32_t bits;
      std::memcpy(&bits, value, sizeof bits);
      bits &= 0u - there;
      std::memcpy(out + i, &bits, sizeof bits);
      value += 4 * there;
    }
  }
}

// A call of its own: inlined, it takes the registers of those who read floats as they lie.
__attribute__((noinline)) static const float *decode_other(const Plan &m, const char *row, float *buffer) {
  if (m.format == DL_TABLE_BF16)
    decode_bf16(row, m.dim + 1, buffer);
  else if (m.format == DL_TABLE_INT8)
    decode_int8(row, m.dim, buffer);
  else
    decode_packed(row, m.dim + 1, buffer);
  return buffer;
}

// Values 0 to dim of a row: where they lie, or decoded to `buffer`, whose other lanes are left as they are.
static inline const float *decode(const Plan &m, const char *row, float *buffer) {
  return m.format == DL_TABLE_F32 ? reinterpret_cast<const float *>(row) : decode_other(m, row, buffer);
}
