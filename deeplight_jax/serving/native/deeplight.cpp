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
#include <system_error>
#include <thread>
#include <vector>

#include "engine.hpp"
#include "fetch.hpp"

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
int check_rows(const dl_engine &engine, const int32_t *ids, const float *values, int64_t first, int rows,
               dl_error *error) {
  const Plan &m = engine.plan;
  if (engine.level->fits(m, ids, values, rows)) return DL_OK;
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

// Asks for a row's table rows, if it can be scored.
bool fetch_row(const Plan &m, const int32_t *ids, const float *values) {
  for (int c = 0; c < m.categorical; c++) {
    if (static_cast<uint32_t>(ids[c]) >= static_cast<uint32_t>(m.sizes[c])) return false;
    if (m.format == DL_TABLE_PACKED)
      DL_PREFETCH(m.index_of(c, ids[c]), 3);
    else
      DL_PREFETCH_ROW(m, c, ids[c], 3);
  }
  bool finite = true;
  for (int i = 0; i < m.numeric; i++) finite &= std::fabs(values[i]) <= 3.402823466e+38f;
  return finite;
}

}  // namespace

}  // namespace deeplight

using namespace deeplight;

dl_engine *dl_load(const dl_model *model, const char *level, dl_error *error) try {
  fail(error, DL_OK, -1, -1, "");
  const Level *chosen = find_level(level);
  if (!chosen) {
    fail(error, DL_LEVEL, -1, -1, "vector level %.32s is not there on this processor", level);
    return nullptr;
  }
  check(*model);
  auto engine = std::make_unique<dl_engine>(dl_engine{make_plan(*model), chosen, 0});
  Plan &plan = engine->plan;
  plan.numeric_rows.resize(static_cast<size_t>(plan.numeric) * plan.width);
  for (int i = 0; i < plan.numeric; i++)
    chosen->decode(plan, plan.row_at(i), &plan.numeric_rows[static_cast<size_t>(i) * plan.width]);
  engine->scratch = plan.scratch_floats();
  return engine.release();
} catch (const Bad &bad) {
  fail(error, DL_MODEL, -1, -1, "the model is damaged: %s", bad.what.c_str());
  return nullptr;
} catch (const std::exception &) {  // sizes that no memory holds
  fail(error, DL_MEMORY, -1, -1, "out of memory");
  return nullptr;
}

namespace {

int score_singles(const dl_engine &engine, float *scratch, const int32_t *ids, const float *values, int rows, float *out,
                  dl_error *error) {
  const Plan &m = engine.plan;
  for (int r = 0; r < rows; r++)
    if (!fetch_row(m, ids + r * m.categorical, values + r * m.numeric))
      return check_rows(engine, ids, values, 0, rows, error);
  for (int r = 0; r < rows; r++)
    engine.level->single(m, scratch, ids + r * m.categorical, values + r * m.numeric, out + r);
  return DL_OK;
}

// Blocks from row `first` on.
int score_blocks(const dl_engine &engine, float *scratch, const int32_t *ids, const float *values, int64_t first,
                 int64_t rows, float *out, dl_error *error) {
  const Plan &m = engine.plan;
  int here = static_cast<int>(std::min<int64_t>(kBlock, rows - first));
  if (int code = check_rows(engine, ids + first * m.categorical, values + first * m.numeric, first, here, error)) return code;
  fetch_starts(m, ids + first * m.categorical, here);
  fetch_rows(m, ids + first * m.categorical, here);
  while (first < rows) {
    const int64_t behind = first + here;
    const int next = static_cast<int>(std::min<int64_t>(kBlock, rows - behind));
    const int32_t *own = ids + first * m.categorical, *ahead = ids + behind * m.categorical;
    // the rows behind are checked first, for this block already asks for their table rows
    if (next > 0)
      if (int code = check_rows(engine, ahead, values + behind * m.numeric, behind, next, error)) return code;
    const int64_t after = behind + next;
    if (after < rows)
      fetch_cells(m, ids + after * m.categorical, values + after * m.numeric,
                  static_cast<int>(std::min<int64_t>(kBlock, rows - after)));
    engine.level->block(m, scratch, own, values + first * m.numeric, here, ahead, next, out + first);
    first = behind, here = next;
  }
  return DL_OK;
}

// The logits of rows `first` to `last`; `together` as blocks however few they are.
int score_part(const dl_engine &engine, const int32_t *ids, const float *values, int64_t first, int64_t last,
               bool together, float *out, dl_error *error) {
  thread_local Scratch memory;
  float *scratch = memory.of(engine.scratch);
  if (!scratch) return fail(error, DL_MEMORY, -1, -1, "out of memory");
  if (first >= last) return DL_OK;
  const int code = together ? score_blocks(engine, scratch, ids, values, first, last, out, error)
                            : score_singles(engine, scratch, ids, values, static_cast<int>(last), out, error);
  if (code) return code;
  for (int64_t r = first; r < last; r++)
    if (std::isnan(out[r]))
      return fail(error, DL_OVERFLOW, r, -1, "row %lld: its values are too large for float32",
                  static_cast<long long>(r));
  return DL_OK;
}

void to_probabilities(float *out, int64_t rows) {
  for (int64_t i = 0; i < rows; i++) {
    const float tail = std::exp(-std::fabs(out[i]));
    out[i] = (out[i] >= 0 ? 1.0f : tail) / (1.0f + tail);
  }
}

// Rows [first, last) of a batch in one thread.
struct Part {
  int64_t first, last;
  int code = DL_OK;
  dl_error error{};
  std::thread thread{};
};

struct Parts {
  std::vector<Part> list;
  ~Parts() {
    for (Part &part : list)
      if (part.thread.joinable()) part.thread.join();
  }
};

// A batch in parts of whole blocks, which score as they do in one thread; the first part stays in this one.
int score_parts(const dl_engine &engine, const int32_t *ids, const float *values, int64_t rows, int threads,
                bool probabilities, float *out, dl_error *error) try {
  const int64_t count = std::min<int64_t>(threads, rows / kThreadRows);
  const int64_t share = (rows / count + kBlock) / kBlock * kBlock;
  Parts parts;
  for (int64_t first = 0; first < rows; first += share) parts.list.push_back({first, std::min(first + share, rows)});
  const auto work = [&](Part &part) {
    part.code = score_part(engine, ids, values, part.first, part.last, true, out, &part.error);
    if (!part.code && probabilities) to_probabilities(out + part.first, part.last - part.first);
  };
  for (size_t i = 1; i < parts.list.size(); i++) try {
      parts.list[i].thread = std::thread(work, std::ref(parts.list[i]));
    } catch (const std::system_error &) {  // no more threads: this one does it
      work(parts.list[i]);
    }
  work(parts.list[0]);
  for (Part &part : parts.list) {
    if (part.thread.joinable()) part.thread.join();
    if (part.code) {
      if (error) *error = part.error;
      return part.code;
    }
  }
  return DL_OK;
} catch (const std::exception &) {
  return fail(error, DL_MEMORY, -1, -1, "out of memory");
}

}  // namespace

int dl_logits(const dl_engine *engine, const int32_t *ids, const float *values, int64_t rows, float *out,
              dl_error *error) {
  return score_part(*engine, ids, values, 0, rows, rows > kSingleRows, out, error);
}

int dl_score(const dl_engine *engine, const int32_t *ids, const float *values, int64_t rows, float *out,
             dl_error *error) {
  if (int code = dl_logits(engine, ids, values, rows, out, error)) return code;
  to_probabilities(out, rows);
  return DL_OK;
}

int dl_score_threads(const dl_engine *engine, const int32_t *ids, const float *values, int64_t rows, int threads,
                     float *out, dl_error *error) {
  if (threads < 2 || rows < 2 * kThreadRows) return dl_score(engine, ids, values, rows, out, error);
  return score_parts(*engine, ids, values, rows, threads, true, out, error);
}

int dl_logits_threads(const dl_engine *engine, const int32_t *ids, const float *values, int64_t rows, int threads,
                      float *out, dl_error *error) {
  if (threads < 2 || rows < 2 * kThreadRows) return dl_logits(engine, ids, values, rows, out, error);
  return score_parts(*engine, ids, values, rows, threads, false, out, error);
}

const char *dl_level(const dl_engine *engine) { return engine->level->name; }

void dl_free(dl_engine *engine) { delete engine; }
