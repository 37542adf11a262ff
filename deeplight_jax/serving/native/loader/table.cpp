// The formats of serving/tables.py.
#include <cmath>
#include <cstring>

#include "refused.hpp"
#include "structure.hpp"

namespace deeplight {
namespace {

int64_t padded(int64_t count) { return (count + 15) / 16 * 16; }

float widen(const unsigned char *upper) {  // a bf16
  const uint32_t bits = uint32_t{upper[0]} << 16 | uint32_t{upper[1]} << 24;
  float out;
  std::memcpy(&out, &bits, sizeof out);
  return out;
}

[[noreturn]] void not_finite() { damaged("its array table holds a value that is not finite"); }

// The values of a row, and what pads it, which is multiplied by 0.
void check_bf16(const unsigned char *row, int64_t items) {
  for (int64_t d = 0; d < items; d++)
    if (!std::isfinite(widen(row + 2 * d))) not_finite();
}

void check_int8(const unsigned char *row, int64_t dim, int64_t items) {
  const float scale = widen(row + items - 4);
  for (int64_t d = 0; d < dim; d++)
    if (!std::isfinite(scale * static_cast<float>(static_cast<int8_t>(row[d])))) not_finite();
  if (!std::isfinite(scale) || !std::isfinite(widen(row + items - 2))) not_finite();
}

// Rows of a bit for each value and as many words as bits are set; a word lies behind the last.
void check_packed(const uint32_t *words, int64_t count, const uint32_t *index, int64_t rows, int64_t values) {
  const auto outside = [] { damaged("its packed table points outside itself"); };
  const int64_t masks = (values + 31) / 32;
  const uint32_t unused = values % 32 ? ~0u << values % 32 : 0;
  if (index[0] != 0 || int64_t{index[rows]} + 1 != count) outside();
  for (int64_t r = 0; r < rows; r++) {
    const int64_t first = index[r], last = index[r + 1];
    if (last - first < masks || last >= count || (words[first + masks - 1] & unused)) outside();
    int64_t wanted = masks;
    for (int64_t i = first; i < first + masks; i++) wanted += __builtin_popcount(words[i]);
    if (last - first != wanted) outside();
    for (int64_t i = first + masks; i < last; i++)
      if ((words[i] & 0x7f800000) == 0x7f800000) not_finite();
  }
}

void read_packed(const Arrays &arrays, int64_t rows, int64_t values, dl_model &model) {
  const int64_t words = length(arrays, "table");
  const void *table = expect(arrays, "table", "U32", {words});
  model.table_index = static_cast<const uint32_t *>(expect(arrays, "table_index", "U32", {rows + 1}));
  check_packed(static_cast<const uint32_t *>(table), words, model.table_index, rows, values);
  model.table = table, model.table_format = DL_TABLE_PACKED;
}

void read_rounded(const Arrays &arrays, int64_t rows, bool bf16, dl_model &model) {
  const int64_t dim = model.dim, items = padded(bf16 ? dim + 1 : dim + 4);
  model.table = expect(arrays, "table", bf16 ? "U16" : "U8", {rows, items});
  model.table_format = bf16 ? DL_TABLE_BF16 : DL_TABLE_INT8;
  const auto *row = static_cast<const unsigned char *>(model.table);
  for (int64_t r = 0; r < rows; r++, row += bf16 ? 2 * items : items) {
    if (bf16) check_bf16(row, items);
    else check_int8(row, dim, items);
  }
}

}  // namespace

void read_table(const json::Value &about, const Arrays &arrays, int64_t rows, dl_model &model) {
  const json::Value *found = about.find("table");
  const std::string form = found ? found->text : "f32";
  const int64_t width = padded(int64_t{model.dim} + 1);  // dim values and the linear one
  if (form == "f32") model.table = floats(arrays, "table", {rows, width});
  else if (form == "bf16" || form == "int8") read_rounded(arrays, rows, form == "bf16", model);
  else if (form == "packed") read_packed(arrays, rows, int64_t{model.dim} + 1, model);
  else throw Refused{DL_FORMAT, "its table is of format " + shown(form, 32) + "; known: f32, bf16, int8, packed"};
  model.width = static_cast<int32_t>(width);
}

}  // namespace deeplight
