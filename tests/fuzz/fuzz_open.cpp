// Opens whatever bytes it is given; what loads must score finite rows with probabilities or name a row, and one
// vector level must do as another. Built twice: as it is, and with DL_FUZZING, which takes every digest for right,
// so that what lies behind the digests is reached.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "../native/rows.hpp"

static void require(bool holds, const char *what) {
  if (holds) return;
  std::fprintf(stderr, "fuzz_open: %s\n", what);
  std::abort();
}

static void score(const dl_engine *engine, int64_t rows, float scale) {
  const RandomRows drawn(engine, rows, static_cast<uint32_t>(rows), scale);
  std::vector<float> out(rows);
  dl_error error;
  const int code = dl_score(engine, drawn.ids.data(), drawn.values.data(), rows, out.data(), &error);
  require(code == DL_OK || code == DL_OVERFLOW || code == DL_MEMORY, "rows that it knows are refused");
  if (code != DL_OK) return;
  for (float probability : out) require(probability >= 0 && probability <= 1, "a score is no probability");
}

static void check(const dl_engine *engine) {
  const int32_t fields = dl_field_count(engine);
  require(fields > 0 && fields == dl_numeric(engine) + dl_categorical(engine), "fields are lost");
  for (int32_t i = 0; i < fields; i++)
    require(dl_field_name(engine, i) && dl_field_size(engine, i) > 0, "a field has no name or no rows");
  for (int64_t rows : {1, 3, 4, 33, 70}) score(engine, rows, 2);
  score(engine, 33, 3e38f);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  for (const char *level : {"portable", static_cast<const char *>(nullptr)}) {
    dl_error error;
    dl_engine *engine = dl_open_memory(data, size, level, &error);
    require((error.code == DL_OK) == (engine != nullptr), "an error without a code, or a code without an error");
    require(engine || std::strncmp(error.text, "artifact in memory: ", 20) == 0, "an error names no file");
    if (!engine) return 0;
    check(engine);
    dl_free(engine);
  }
  return 0;
}
