/* Scores rows by an artifact, without Python: what `deeplight export` wrote, and rows as text.
 *
 *   make lib
 *   cc -I build/native examples/score.c build/native/libdeeplight.a -lstdc++ -lm -pthread -o score
 *   ./score model.safetensors < rows.txt
 *
 * A line is a row: the values of the numeric fields, then the ids of the categorical ones, with blanks between
 * them; 0 is a missing value and an unknown id. `./score model.safetensors --fields` lists the fields in that order.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "deeplight.h"

enum { BLOCK_ROWS = 1024, LINE_BYTES = 1 << 20 };

static int fail(const char *what) {
  fprintf(stderr, "score: %s\n", what);
  return 1;
}

static void print_fields(const dl_engine *engine) {
  for (int32_t i = 0; i < dl_field_count(engine); i++)
    printf("%s\t%s\t%d\n", dl_field_name(engine, i), i < dl_numeric(engine) ? "numeric" : "categorical",
           (int)dl_field_size(engine, i));
}

/* One line into a row; 0 unless it holds as many numbers as there are fields. */
static int read_row(char *line, int numeric, int categorical, float *values, int32_t *ids) {
  char *next = line, *end;
  for (int i = 0; i < numeric + categorical; i++, next = end) {
    errno = 0;
    if (i < numeric) {
      values[i] = strtof(next, &end);
    } else {
      const long id = strtol(next, &end, 10);
      if (errno || id < INT32_MIN || id > INT32_MAX) return 0;
      ids[i - numeric] = (int32_t)id;
    }
    if (end == next) return 0;
  }
  return next[strspn(next, " \t\r\n")] == '\0';
}

static int score_block(const dl_engine *engine, const int32_t *ids, const float *values, long first, int rows) {
  float scores[BLOCK_ROWS];
  dl_error error;
  if (dl_score(engine, ids, values, rows, scores, &error)) {
    fprintf(stderr, "score: in the %d lines from line %ld: %s\n", rows, first + 1, error.text);
    return 1;
  }
  for (int r = 0; r < rows; r++) printf("%.9g\n", scores[r]);
  return 0;
}

static int score_lines(const dl_engine *engine, FILE *file, char *line, int32_t *ids, float *values) {
  const int numeric = dl_numeric(engine), categorical = dl_categorical(engine);
  long lines = 0;
  int rows = 0;
  for (; fgets(line, LINE_BYTES, file); lines++) {
    if (!read_row(line, numeric, categorical, values + (size_t)rows * numeric, ids + (size_t)rows * categorical)) {
      fprintf(stderr, "score: line %ld does not hold %d values and %d ids\n", lines + 1, numeric, categorical);
      return 1;
    }
    if (++rows < BLOCK_ROWS) continue;
    if (score_block(engine, ids, values, lines + 1 - rows, rows)) return 1;
    rows = 0;
  }
  return score_block(engine, ids, values, lines - rows, rows);
}

int main(int count, char **arguments) {
  if (count < 2) return fail("usage: score MODEL.safetensors [--fields] < rows");
  dl_error error;
  dl_engine *engine = dl_open(arguments[1], NULL, &error);
  if (!engine) return fail(error.text);
  int status = 0;
  if (count > 2 && !strcmp(arguments[2], "--fields")) {
    print_fields(engine);
  } else {
    char *line = malloc(LINE_BYTES);
    int32_t *ids = malloc(sizeof *ids * BLOCK_ROWS * ((size_t)dl_categorical(engine) + 1));
    float *values = malloc(sizeof *values * BLOCK_ROWS * ((size_t)dl_numeric(engine) + 1));
    status = line && ids && values ? score_lines(engine, stdin, line, ids, values) : fail("out of memory");
    free(line), free(ids), free(values);
  }
  dl_free(engine); /* no thread may be scoring any more */
  return status;
}
