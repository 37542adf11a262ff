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

typedef struct dl_engine dl_engine;

enum {
  DL_OK = 0,
  DL_MODEL = 1,    /* dl_load: the model points outside itself, or its sizes do not fit */
  DL_LEVEL = 2,    /* dl_load: no such vector level, or not on this processor */
  DL_MEMORY = 3,
  DL_ID = 4,       /* an id is outside its field */
  DL_VALUE = 5,    /* a value is NaN or infinite */
  DL_OVERFLOW = 6  /* values so large that a logit is not a number */
};

enum { DL_NET_NONE = 0, DL_NET_INPUTS = 1, DL_NET_POOLED = 2, DL_NET_PRODUCTS = 3 };

typedef struct {
  int code;          /* DL_OK or what is wrong */
  int64_t row;       /* of the batch, -1 if none is to blame */
  int32_t field;     /* column of ids (DL_ID) or of values (DL_VALUE), else -1 */
  char text[192];    /* for people */
} dl_error;

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

/* The structure of deeplight_jax/serving/structure.py. Everything is copied by dl_load but the table. */
typedef struct {
  int32_t numeric, categorical, dim; /* fields of each kind, values of an embedding */
  const int32_t *sizes;              /* [categorical], table rows of each categorical field */
  const float *table;                /* [numeric + sum(sizes), width]; must outlive the engine */
  int32_t width;                     /* a multiple of 16, at least dim + 1; best aligned to 64 bytes */
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
} dl_model;

/* Loads a model. `level` is NULL for the best this processor has, or "avx512", "avx2", "portable".
 * Returns NULL and fills `error` on failure. */
dl_engine *dl_load(const dl_model *model, const char *level, dl_error *error);

/* Scores rows: ids [rows, categorical], values [rows, numeric] in C order, to out [rows]: probabilities, or
 * logits. Returns DL_OK or fills `error`; `out` is then undefined. */
int dl_score(const dl_engine *engine, const int32_t *ids, const float *values, int64_t rows, float *out,
             dl_error *error);
int dl_logits(const dl_engine *engine, const int32_t *ids, const float *values, int64_t rows, float *out,
              dl_error *error);

/* The vector level in use. */
const char *dl_level(const dl_engine *engine);

void dl_free(dl_engine *engine);

#ifdef __cplusplus
}
#endif
#endif
