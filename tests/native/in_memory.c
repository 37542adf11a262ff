/* A model handed over in memory, by dl_load: its scores, and how its errors are worded.
 *
 * The model is an FwFM of a numeric field x and two categorical ones a (2 rows) and b (3 rows), k = 2, with a
 * net of one hidden unit. An artifact's arrays are laid out the same way.
 */
#include <stdio.h>

#include "deeplight.h"

/* a table row: 2 values, the linear value, zeros up to 16 floats */
static const float table[6][16] = {
    {0.0f, 0.0f, 0.5f},                                              /* x */
    {1.0f, -1.0f, 0.1f}, {0.5f, 2.0f, 0.2f},                         /* a */
    {1.0f, 1.0f, 0.0f},  {-1.0f, 0.5f, 0.3f}, {2.0f, 0.0f, -0.4f},   /* b */
};
static const int32_t sizes[2] = {2, 3};
/* inputs: x, a0, a1, b0, b1; the pair (a, b) weighs 0.5 */
static const int32_t q_indptr[6] = {0, 0, 1, 2, 2, 2}, q_indices[2] = {3, 4};
static const float q_values[2] = {0.5f, 0.5f};
/* relu(2 x - a1 + 0.25) enters the logit with weight -1 */
static const int32_t w_indptr[2] = {0, 2}, w_indices[2] = {0, 2};
static const float w_values[2] = {2.0f, -1.0f}, w_bias[1] = {0.25f}, output[1] = {-1.0f};

int main(void) {
  const dl_layer layer = {{1, 5, 2, w_indptr, w_indices, w_values}, w_bias};
  dl_model model = {0};
  model.numeric = 1, model.categorical = 2, model.dim = 2, model.width = 16;
  model.sizes = sizes, model.table = &table[0][0], model.bias = -0.5f;
  model.quadratic = (dl_csr){5, 5, 2, q_indptr, q_indices, q_values};
  model.net_input = DL_NET_INPUTS, model.layers = 1, model.layer = &layer;
  model.outputs = 1, model.output = output;

  dl_error error;
  dl_engine *engine = dl_load(&model, NULL, &error);
  if (!engine) {
    fprintf(stderr, "%s\n", error.text);
    return 1;
  }
  enum { ROWS = 40 }; /* more than a block */
  int32_t ids[ROWS][2];
  float values[ROWS][1], logits[ROWS], scores[ROWS];
  for (int r = 0; r < ROWS; r++) ids[r][0] = r % 2, ids[r][1] = r % 3, values[r][0] = 0.25f * (float)(r % 5);
  if (dl_logits(engine, &ids[0][0], &values[0][0], ROWS, logits, &error) ||
      dl_score(engine, &ids[0][0], &values[0][0], ROWS, scores, &error)) {
    fprintf(stderr, "%s\n", error.text);
    return 1;
  }
  for (int r = 0; r < ROWS; r++) printf("%.7g %.7g\n", logits[r], scores[r]);

  ids[7][1] = 3; /* outside field b */
  printf("%d %s\n", dl_score(engine, &ids[0][0], &values[0][0], ROWS, scores, &error), error.text);
  model.quadratic.columns = 4;
  printf("%s %s\n", dl_load(&model, NULL, &error) ? "loaded" : "refused:", error.text);
  dl_free(engine);
  return 0;
}
