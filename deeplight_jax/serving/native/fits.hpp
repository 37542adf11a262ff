// Whether rows can be scored: included by kernel.hpp, for its vector level.

typedef uint32_t words __attribute__((vector_size(DL_BYTES)));

static inline words load_words(const void *p) { return reinterpret_cast<words>(load(static_cast<const float *>(p))); }

// Whether every id lies within its field and every value is finite. A word of `bad` has its upper bit where a cell
// is neither: id and size - 1 - id are both below 2^31, and so is the greatest float less a value's bits.
static bool fits(const Plan &m, const int32_t *ids, const float *values, int rows) {
  constexpr uint32_t kGreatest = 0x7f7fffff, kMagnitude = 0x7fffffff;
  const int fields = m.categorical, whole = fields / kLanes * kLanes, cells = rows * m.numeric;
  const int32_t *sizes = m.sizes.data();
  words bad{};
  uint32_t rest = 0;
  const auto look = [&](const int32_t *row, int c) {
    const words id = load_words(row + c);
    bad |= id | (load_words(sizes + c) - 1 - id);
  };
  for (int r = 0; r < rows; r++, ids += fields) {
    for (int c = 0; c < whole; c += kLanes) look(ids, c);
    if (whole && whole < fields) look(ids, fields - kLanes);  // some of them twice
    for (int c = whole ? fields : 0; c < fields; c++) {
      const uint32_t id = static_cast<uint32_t>(ids[c]);
      rest |= id | (static_cast<uint32_t>(sizes[c]) - 1 - id);
    }
  }
  int i = 0;
  for (; i + kLanes <= cells; i += kLanes) bad |= kGreatest - (load_words(values + i) & kMagnitude);
  for (; i < cells; i++) {
    uint32_t bits;
    std::memcpy(&bits, values + i, sizeof bits);
    rest |= kGreatest - (bits & kMagnitude);
  }
  for (int j = 0; j < kLanes; j++) rest |= bad[j];
  return !(rest >> 31);
}
