// The C interface: loads a model, checks rows, and hands them to the processor's best kernels.
#include "deeplight.h"

#include <algorithm>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>

#include "plan.hpp"

namespace deeplight {
namespace {

int fail(dl_error *error, int code, int64_t row, int32_t field, const char *form, ...) {
  if (error) {
    error->code = code, error->row = row, error->field = field;
    va_list arguments;
    va_start(arguments, form);
    std::vsnprintf(error->text, sizeof error->text, form, arguments);
    va_end(arguments);
  }
  return code;
}

const Level *find_level(const char *wanted) {
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
  if (avx512 && (!wanted || !std::strcmp(wanted, "avx512"))) return &kAvx512;
  if (avx2 && (!wanted || !std::strcmp(wanted, "avx2"))) return &kAvx2;
#endif
  return !wanted || !std::strcmp(wanted, "portable") ? &kPortable : nullptr;
}

// A thread's own working memory, aligned to cache lines; it only grows.
struct Scratch {
  float *data = nullptr;
  size_t floats = 0;
  ~Scratch() { std::free(data); }
  float *of(size_t wanted) {
    if (wanted > floats) {
      std::free(data);
      const size_t bytes = (wanted * sizeof(float) + 63) / 64 * 64;
      data = static_cast<float *>(std::aligned_alloc(64, bytes));
      floats = data ? wanted : 0;
      if (data) std::memset(data, 0, bytes);
    }
    return data;
  }
};

// The first cell of a few rows that cannot be scored.
int check_rows(const Plan &m, const int32_t *ids, const float *values, int64_t first, int rows, dl_error *error) {
  bool bad = false;
  for (int r = 0; r < rows; r++)
    for (int c = 0; c < m.categorical; c++)
      bad |= static_cast<uint32_t>(ids[r * m.categorical + c]) >= static_cast<uint32_t>(m.sizes[c]);
  for (int i = 0; i < rows * m.numeric; i++) bad |= !(std::fabs(values[i]) <= 3.402823466e+38f);
  if (!bad) return DL_OK;
  for (int r = 0; r < rows; r++) {
    for (int c = 0; c < m.categorical; c++) {
      const int32_t id = ids[r * m.categorical + c];
      if (id < 0 || id >= m.sizes[c])
        return fail(error, DL_ID, first + r, c, "row %lld: id %d of categorical field %d is outside 0 to %d",
                    static_cast<long long>(first + r), id, c, m.sizes[c] - 1);
    }
    for (int i = 0; i < m.numeric; i++)
      if (!std::isfinite(values[r * m.numeric + i]))
        return fail(error, DL_VALUE, first + r, i, "row %lld: the value of numeric field %d is not finite",
                    static_cast<long long>(first + r), i);
  }
  return DL_OK;
}

}  // namespace

}  // namespace deeplight

using namespace deeplight;

struct dl_engine {
  Plan plan;
  const Level *level;
  size_t scratch;
};

dl_engine *dl_load(const dl_model *model, const char *level, dl_error *error) try {
  fail(error, DL_OK, -1, -1, "");
  const Level *chosen = find_level(level);
  if (!chosen) {
    fail(error, DL_LEVEL, -1, -1, "vector level %.32s is not there on this processor", level);
    return nullptr;
  }
  check(*model);
  auto engine = std::make_unique<dl_engine>(dl_engine{make_plan(*model), chosen, 0});
  engine->scratch = engine->plan.scratch_floats();
  return engine.release();
} catch (const Bad &bad) {
  fail(error, DL_MODEL, -1, -1, "the model is damaged: %s", bad.what.c_str());
  return nullptr;
} catch (const std::exception &) {  // sizes that no memory holds
  fail(error, DL_MEMORY, -1, -1, "out of memory");
  return nullptr;
}

int dl_logits(const dl_engine *engine, const int32_t *ids, const float *values, int64_t rows, float *out,
              dl_error *error) {
  thread_local Scratch memory;
  const Plan &m = engine->plan;
  float *scratch = memory.of(engine->scratch);
  if (!scratch) return fail(error, DL_MEMORY, -1, -1, "out of memory");
  const int step = rows <= kSingleRows ? 1 : kBlock;
  int here = static_cast<int>(std::min<int64_t>(step, rows));
  if (rows > 0)
    if (int code = check_rows(m, ids, values, 0, here, error)) return code;
  for (int64_t first = 0; first < rows; first += step) {
    const int64_t behind = first + here;
    const int next = static_cast<int>(std::min<int64_t>(step, rows - behind));
    const int32_t *own = ids + first * m.categorical, *ahead = ids + behind * m.categorical;
    // the rows behind are checked first, for this block already asks for their table rows
    if (next > 0)
      if (int code = check_rows(m, ahead, values + behind * m.numeric, behind, next, error)) return code;
    if (step == 1)
      engine->level->single(m, scratch, own, values + first * m.numeric, out + first);
    else
      engine->level->block(m, scratch, own, values + first * m.numeric, here, ahead, next, out + first);
    for (int r = 0; r < here; r++)
      if (std::isnan(out[first + r]))
        return fail(error, DL_OVERFLOW, first + r, -1, "row %lld: its values are too large for float32",
                    static_cast<long long>(first + r));
    here = next;
  }
  return DL_OK;
}

int dl_score(const dl_engine *engine, const int32_t *ids, const float *values, int64_t rows, float *out,
             dl_error *error) {
  if (int code = dl_logits(engine, ids, values, rows, out, error)) return code;
  for (int64_t i = 0; i < rows; i++) {
    const float tail = std::exp(-std::fabs(out[i]));
    out[i] = (out[i] >= 0 ? 1.0f : tail) / (1.0f + tail);
  }
  return DL_OK;
}

const char *dl_level(const dl_engine *engine) { return engine->level->name; }

void dl_free(dl_engine *engine) { delete engine; }
