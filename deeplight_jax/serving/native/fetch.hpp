// Asks for memory ahead of its use.
#pragma once

#include "plan.hpp"

// 3, to the first cache, which a block's rows do not fit; 2, to the second. Macros, and an effect where a function does
// nothing else: gcc takes it to have none, and drops its calls.
#define DL_PREFETCH(place, near) __builtin_prefetch(place, 0, near)
#define DL_PREFETCH_ROW(plan, c, id, near)                                                        \
  do {                                                                                            \
    const char *place = (plan).row(c, id);                                                        \
    for (int64_t byte = 0; byte < (plan).row_bytes(); byte += 64) DL_PREFETCH(place + byte, near); \
    if ((plan).format == DL_TABLE_PACKED) DL_PREFETCH(place + (plan).row_bytes() - 1, near);      \
  } while (0)
#define DL_HAS_EFFECT asm volatile("")

namespace deeplight {

// What is given of a few rows, before they are checked.
__attribute__((noinline)) inline void fetch_cells(const Plan &m, const int32_t *ids, const float *values, int rows) {
  DL_HAS_EFFECT;
  constexpr int kLine = 64 / sizeof(int32_t);
  for (int i = 0; i < rows * m.categorical; i += kLine) DL_PREFETCH(ids + i, 2);
  for (int i = 0; i < rows * m.numeric; i += kLine) DL_PREFETCH(values + i, 2);
}

// Where packed table rows begin, which must be there when they are asked for themselves.
__attribute__((noinline)) inline void fetch_starts(const Plan &m, const int32_t *ids, int rows) {
  DL_HAS_EFFECT;
  if (m.format == DL_TABLE_PACKED)
    for (int r = 0; r < rows; r++, ids += m.categorical)
      for (int32_t c : m.far) DL_PREFETCH(m.index_of(c, ids[c]), 2);
}

// Table rows of the far fields, all at once: spread over the hidden layers they took longer.
__attribute__((noinline)) inline void fetch_rows(const Plan &m, const int32_t *ids, int rows) {
  DL_HAS_EFFECT;
  const bool short_rows = m.format != DL_TABLE_PACKED && m.row_bytes() <= 64;  // within one cache line
  const int32_t *far = m.far.data();
  const int64_t *offsets = m.offsets.data(), stride = m.stride;
  const char *table = m.table;
  const size_t count = m.far.size();
  for (int r = 0; r < rows; r++, ids += m.categorical)
    if (short_rows)
      for (size_t i = 0; i < count; i++) DL_PREFETCH(table + (offsets[far[i]] + ids[far[i]]) * stride, 2);
    else
      for (size_t i = 0; i < count; i++) DL_PREFETCH_ROW(m, far[i], ids[far[i]], 2);
}

}  // namespace deeplight
