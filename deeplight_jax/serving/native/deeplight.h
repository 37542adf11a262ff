/* The native engine's C interface: scores rows by a compact structure. C++17 inside, no dependency.
 *
 * An engine is read-only once loaded: any number of threads may score with one at the same time.
 */
#ifndef DEEPLIGHT_H
#define DEEPLIGHT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef DL_API
#ifdef DL_SHARED /* a library is being built of which others see these functions alone */
#define DL_API __attribute__((visibility("default")))
#else
#define DL_API
#endif
#endif

typedef struct dl_engine dl_engine;

enum {
  DL_OK = 0,
  DL_MODEL = 1,    /* dl_load: the model points outside itself, or its sizes do not fit */
  DL_LEVEL = 2,    /* dl_load: no such vector level, or not on this processor */
  DL_MEMORY = 3,
  DL_ID = 4,       /* an id is outside its field */
  DL_VALUE = 5,    /* a value is NaN or infinite */
  DL_OVERFLOW = 6, /* values so large that a logit is not a number */
  DL_FILE = 7,     /* dl_open: no such file, or it cannot be read */
  DL_DAMAGED = 8,  /* dl_open: truncated, changed, or no artifact of ours */
  DL_FORMAT = 9    /* dl_open: whole, but of a format or kind that this library does not read */
};

enum { DL_NET_NONE = 0, DL_NET_INPUTS = 1, DL_NET_POOLED = 2, DL_NET_PRODUCTS = 3 };

typedef struct {
  int code;          /* DL_OK or what is wrong */
  int64_t row;       /* of the batch, -1 if none is to blame */
  int32_t field;     /* column of ids (DL_ID) or of values (DL_VALUE), else -1 */
  char text[512];    /* for people */
} dl_error;

/* How table rows are stored; `tables.py` writes them.
 *   F32     width floats: dim values, the linear value, zeros
 *   BF16    the upper 16 bits of dim + 1 floats; padded to a multiple of 16 values
 *   INT8    dim signed bytes to be multiplied by the scale; zeros; the last 4 of a multiple of 16 bytes are the scale
 *           and the linear value as BF16
 *   PACKED  32-bit words from word table_index[row] on: a bit for each of dim + 1 values (32 a word, lowest bit
 *           first), then as floats those whose bit is set */
enum { DL_TABLE_F32 = 0, DL_TABLE_BF16 = 1, DL_TABLE_INT8 = 2, DL_TABLE_PACKED = 3 };

/* A sparse matrix by rows: entries indptr[r] to indptr[r + 1] are row r's. */
typedef struct {
  int32_t rows, columns, entries;
  const int32_t *indptr;  /* [rows + 1] */
  const int32_t *indices; /* [entries] */
  const float *values;    /* [entries] */
} dl_csr;

typedef struct {
  dl_csr weights;    /* [unit, input] */
  const float *bias; /* [unit] */
} dl_layer;

/* The structure of deeplight_jax/serving/structure.py. Everything is copied by dl_load but the table
 * and its index. */
typedef struct {
  int32_t numeric, categorical, dim; /* fields of each kind, values of an embedding */
  const int32_t *sizes;              /* [categorical], table rows of each categorical field */
  const void *table;                 /* numeric + sum(sizes) rows; must outlive the engine; best aligned to 64 bytes */
  int32_t width;                     /* floats of a row: a multiple of 16, at least dim + 1 */
  float bias;
  dl_csr quadratic;                  /* [input, input], input = numeric + categorical * dim */
  int32_t all_pairs;                 /* whether FM's sum over all pairs is added */
  int32_t net_input;                 /* DL_NET_... */
  int32_t products;                  /* field pairs whose inner products the net reads */
  const int32_t *product_fields;     /* [products, 2] */
  int32_t layers;
  const dl_layer *layer;             /* [layers] */
  int32_t outputs;                   /* units of the last layer */
  const float *output;               /* [outputs] */
  int32_t table_format;              /* DL_TABLE_... */
  const uint32_t *table_index;       /* PACKED: [rows + 1]; one zero word lies behind the last row; must outlive the engine */
} dl_model;

/* Loads a model. `level` is NULL for the best this processor has, or "avx512", "avx2", "portable".
 * Returns NULL and fills `error` on failure. */
DL_API dl_engine *dl_load(const dl_model *model, const char *level, dl_error *error);

/* Scores rows: ids [rows, categorical], values [rows, numeric] in C order, to out [rows]: probabilities, or
 * logits. Returns DL_OK or fills `error`; `out` is then undefined. */
DL_API int dl_score(const dl_engine *engine, const int32_t *ids, const float *values, int64_t rows, float *out,
                    dl_error *error);
DL_API int dl_logits(const dl_engine *engine, const int32_t *ids, const float *values, int64_t rows, float *out,
                     dl_error *error);

/* The same by up to `threads` threads, which are started for this call where there are 1,024 rows for each: the
 * scores are those of one thread, bit for bit. */
DL_API int dl_score_threads(const dl_engine *engine, const int32_t *ids, const float *values, int64_t rows, int threads,
                            float *out, dl_error *error);
DL_API int dl_logits_threads(const dl_engine *engine, const int32_t *ids, const float *values, int64_t rows, int threads,
                             float *out, dl_error *error);

/* The vector level in use. */
DL_API const char *dl_level(const dl_engine *engine);

DL_API void dl_free(dl_engine *engine);

/* Of libdeeplight alone (`make lib`): reads what `deeplight export` wrote, checks all of it (sizes, SHA-256s,
 * structure) and loads it; the engine owns its memory, about the file's size. `level` as for dl_load. Returns
 * NULL and fills `error`, whose text names the file and what to do, on failure. */
DL_API dl_engine *dl_open(const char *path, const char *level, dl_error *error);

/* The same of a file's bytes, which are copied. */
DL_API dl_engine *dl_open_memory(const void *data, size_t size, const char *level, dl_error *error);

/* Fields: numeric ones first, in the order of `values`, then categorical ones in the order of `ids`. A field's
 * name is NULL for an engine of dl_load; its size counts the ids that it knows, 1 for a numeric field. Of a
 * field that is not there the name is NULL and the size 0. */
DL_API int32_t dl_numeric(const dl_engine *engine);
DL_API int32_t dl_categorical(const dl_engine *engine);
DL_API int32_t dl_field_count(const dl_engine *engine);
DL_API const char *dl_field_name(const dl_engine *engine, int32_t field);
DL_API int32_t dl_field_size(const dl_engine *engine, int32_t field);

#ifdef __cplusplus
}
#endif
#endif
