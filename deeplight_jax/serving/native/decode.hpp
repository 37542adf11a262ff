// Table rows as floats: included by plan.cpp, and by kernel.hpp for its vector level.

// A float by its upper 16 bits.
static inline float widen(uint16_t upper) {
  const uint32_t bits = static_cast<uint32_t>(upper) << 16;
  float out;
  std::memcpy(&out, &bits, sizeof out);
  return out;
}

// 16 values at a time, as long as a row is: loops of a fixed length become vectors.
static inline void decode_bf16(const char *row, int count, float *out) {
  for (int first = 0; first < count; first += 16) {
    uint16_t upper[16];
    uint32_t bits[16];
    std::memcpy(upper, row + 2 * first, sizeof upper);
    for (int i = 0; i < 16; i++) bits[i] = static_cast<uint32_t>(upper[i]) << 16;
    std::memcpy(out + first, bits, sizeof bits);
  }
}

static inline void decode_int8(const char *row, int64_t stride, int dim, int width, float *out) {
  uint16_t head[2];
  std::memcpy(head, row + stride - sizeof head, sizeof head);
  const float scale = widen(head[0]);
  for (int first = 0; first <= dim; first += 16) {
    int8_t steps[16];
    std::memcpy(steps, row + first, sizeof steps);
    for (int i = 0; i < 16; i++) out[first + i] = scale * static_cast<float>(steps[i]);
  }
  if (stride <= width) std::memset(out + stride - 4, 0, 16);  // where scale and linear value were taken for steps
  out[dim] = widen(head[1]);
}

// Of four bits: which of the words at hand each set one's value is; a bit that is not set reads the first, which the
// zero word behind the last row keeps inside, and is blanked out.
struct Nibble {
  uint8_t place[4], count;
};
#define DL_NIBBLE(n)                                                                                       \
  {                                                                                                        \
    {0, (n & 2) ? n & 1 : 0, (n & 4) ? (n & 1) + (n >> 1 & 1) : 0, (n & 8) ? (n & 1) + (n >> 1 & 1) + (n >> 2 & 1) : 0}, \
        (n & 1) + (n >> 1 & 1) + (n >> 2 & 1) + (n >> 3 & 1)                                               \
  }
constexpr Nibble kNibbles[16] = {DL_NIBBLE(0),  DL_NIBBLE(1),  DL_NIBBLE(2),  DL_NIBBLE(3),
                                 DL_NIBBLE(4),  DL_NIBBLE(5),  DL_NIBBLE(6),  DL_NIBBLE(7),
                                 DL_NIBBLE(8),  DL_NIBBLE(9),  DL_NIBBLE(10), DL_NIBBLE(11),
                                 DL_NIBBLE(12), DL_NIBBLE(13), DL_NIBBLE(14), DL_NIBBLE(15)};
#undef DL_NIBBLE

// Bits behind the values are not set, so that all lanes are written.
static inline void decode_packed(const char *row, int count, int width, float *out) {
  const char *value = row + (count + 31) / 32 * 4;
  for (int first = 0; first < width; first += 4) {
    uint32_t mask = 0, bits[4];
    if (first < count) std::memcpy(&mask, row + first / 32 * 4, sizeof mask);
    mask = mask >> (first % 32) & 15;
    const Nibble &nibble = kNibbles[mask];
    for (int i = 0; i < 4; i++) {
      std::memcpy(&bits[i], value + 4 * nibble.place[i], sizeof bits[i]);
      bits[i] &= 0u - (mask >> i & 1);
    }
    std::memcpy(out + first, bits, sizeof bits);
    value += 4 * nibble.count;
  }
}

// All `width` lanes of a row, zeros behind its values. A call of its own: inlined, it takes the registers of those
// who read floats as they lie.
__attribute__((noinline)) static const float *decode_other(const Plan &m, const char *row, float *buffer) {
  if (m.format == DL_TABLE_BF16)
    decode_bf16(row, m.dim + 1, buffer);
  else if (m.format == DL_TABLE_INT8)
    decode_int8(row, m.stride, m.dim, m.width, buffer);
  else
    decode_packed(row, m.dim + 1, m.width, buffer);
  return buffer;
}

// A row as floats: where they lie, or decoded to `buffer`.
static inline const float *decode(const Plan &m, const char *row, float *buffer) {
  return m.format == DL_TABLE_F32 ? reinterpret_cast<const float *>(row) : decode_other(m, row, buffer);
}
