#include "structure.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "refused.hpp"

namespace deeplight {
namespace {

using json::Value;
constexpr int64_t kMost = std::numeric_limits<int32_t>::max();

const Loaded &array(const Arrays &arrays, const std::string &name) {
  const auto found = arrays.find(name);
  if (found == arrays.end()) damaged("its description is not whole (no array " + name + ")");
  return found->second;
}

}  // namespace

int64_t length(const Arrays &arrays, const std::string &name) {
  const std::vector<int64_t> &shape = array(arrays, name).about.shape;
  if (shape.empty() || shape[0] > kMost) damaged("its array " + name + " is empty or not one row of numbers");
  return shape[0];
}

const void *expect(const Arrays &arrays, const std::string &name, const char *dtype, const std::vector<int64_t> &shape) {
  const Loaded &found = array(arrays, name);
  if (found.about.dtype != dtype || found.about.shape != shape)
    damaged("its array " + name + " is " + found.about.dtype + text_of(found.about.shape) + ", not " + dtype +
            text_of(shape));
  return found.data.get();
}

const float *floats(const Arrays &arrays, const std::string &name, const std::vector<int64_t> &shape) {
  const auto *out = static_cast<const float *>(expect(arrays, name, "F32", shape));
  int64_t values = 1;
  for (int64_t axis : shape) values *= axis;
  bool finite = true;
  for (int64_t i = 0; i < values; i++) finite &= std::fabs(out[i]) <= std::numeric_limits<float>::max();
  if (!finite) damaged("its array " + name + " holds a value that is not finite");
  return out;
}

namespace {

const Value &member(const Value &object, const char *key, Value::Kind kind) {
  const Value *found = object.find(key);
  if (!found) damaged(std::string("its description is not whole (no '") + key + "')");
  if (found->kind != kind) damaged(std::string("its description is not whole ('") + key + "' is of another type)");
  return *found;
}

int32_t count(const Value &object, const char *key) {
  const int64_t found = member(object, key, Value::kInteger).integer;
  if (found < 0 || found > kMost) damaged("its " + std::string(key) + " is out of range");
  return static_cast<int32_t>(found);
}

void read_schema(const Value &schema, Structure &out) {
  if (schema.items.empty()) damaged("a schema needs at least one field");
  for (const Value &field : schema.items) {
    const std::string &name = member(field, "name", Value::kString).text, &kind = member(field, "kind", Value::kString).text;
    const int32_t size = count(field, "size");
    const bool numeric = kind == "numeric";
    if (!numeric && kind != "categorical") damaged("field " + shown(name) + " is neither numeric nor categorical");
    if (size < 1 || (numeric && size != 1))
      damaged("field " + shown(name) + ": a " + kind + " field cannot have " + std::to_string(size) + " table rows");
    if (numeric && !out.sizes.empty()) damaged("numeric fields must come before categorical ones");
    if (name.find('\0') != std::string::npos) damaged("a field's name holds a zero byte");
    if (numeric) out.model.numeric++;
    else out.sizes.push_back(size);
    out.names.push_back(name);
  }
  std::vector<std::string> sorted = out.names;
  std::sort(sorted.begin(), sorted.end());
  const auto twice = std::adjacent_find(sorted.begin(), sorted.end());
  if (twice != sorted.end()) damaged("field names repeat: " + shown(*twice));
  out.model.categorical = static_cast<int32_t>(out.sizes.size()), out.model.sizes = out.sizes.data();
}

int32_t net_input(const Value &about) {
  const std::string &name = member(about, "net_input", Value::kString).text;
  static const char *const names[] = {"none", "inputs", "pooled", "products"};  // by DL_NET_...
  const auto found = std::find(std::begin(names), std::end(names), name);
  if (found == std::end(names)) damaged("its net_input is out of range");
  return static_cast<int32_t>(found - std::begin(names));
}

const int32_t *ints(const Arrays &arrays, const std::string &name, const std::vector<int64_t> &shape) {
  return static_cast<const int32_t *>(expect(arrays, name, "I32", shape));
}

dl_csr read_csr(const Arrays &arrays, const std::string &name, int64_t rows, int64_t columns) {
  const int64_t entries = length(arrays, name + ".values");
  if (columns > kMost) damaged("its sparse matrix " + name + " is too large");
  const int32_t *indptr = ints(arrays, name + ".indptr", {rows + 1});
  const int32_t *indices = ints(arrays, name + ".indices", {entries});
  const float *values = floats(arrays, name + ".values", {entries});
  bool inside = indptr[0] == 0 && indptr[rows] == entries;
  for (int64_t r = 0; r < rows; r++) inside &= indptr[r] <= indptr[r + 1];
  for (int64_t e = 0; e < entries; e++) inside &= indices[e] >= 0 && indices[e] < columns;
  if (!inside) damaged("its sparse matrix " + name + " points outside itself");
  return {static_cast<int32_t>(rows), static_cast<int32_t>(columns), static_cast<int32_t>(entries), indptr, indices, values};
}

void read_products(const Arrays &arrays, dl_model &model) {
  const int64_t products = length(arrays, "products"), fields = model.numeric + int64_t{model.categorical};
  model.product_fields = ints(arrays, "products", {products, 2});
  model.products = static_cast<int32_t>(products);
  for (int64_t i = 0; i < 2 * products; i++)
    if (model.product_fields[i] < 0 || model.product_fields[i] >= fields)
      damaged("its products name fields that are not there");
}

}  // namespace

void read_structure(const Value &about, const Arrays &arrays, Structure &out) {
  dl_model &model = out.model;
  read_schema(member(about, "schema", Value::kArray), out);
  model.dim = count(about, "dim"), model.layers = count(about, "layers");
  model.all_pairs = member(about, "all_pairs", Value::kBool).integer != 0;
  model.net_input = net_input(about);
  int64_t rows = model.numeric;
  for (int32_t size : out.sizes) rows += size;
  read_table(about, arrays, rows, model);
  model.bias = *floats(arrays, "bias", {1});
  read_products(arrays, model);
  const int64_t inputs = model.numeric + int64_t{model.categorical} * model.dim;
  model.quadratic = read_csr(arrays, "quadratic", inputs, inputs);
  const int64_t reads[] = {0, inputs, model.dim, model.products};
  int64_t units = reads[model.net_input];
  for (int32_t i = 0; i < model.layers; i++) {
    const std::string name = "layer_" + std::to_string(i);
    const int64_t columns = units;
    units = length(arrays, name + ".bias");
    const float *bias = floats(arrays, name + ".bias", {units});
    out.layers.push_back({read_csr(arrays, name, units, columns), bias});
  }
  model.layer = out.layers.data();
  model.output = floats(arrays, "output", {units}), model.outputs = static_cast<int32_t>(units);
}

}  // namespace deeplight
