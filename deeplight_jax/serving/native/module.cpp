// The engine as a Python module, by the stable ABI, the buffer protocol and what ndarray.hpp has seen: no NumPy headers, one
// binary for every Python from 3.11 on.
#include "ndarray.hpp"

#include <chrono>
#include <vector>

#include "deeplight.h"

namespace {

constexpr const char *kCapsule = "deeplight_jax.engine", *kDirect = "deeplight_jax.direct";
constexpr Py_ssize_t kHeldRows = 8;  // so few rows take no longer than giving the GIL away and back

struct Loaded {  // an engine, and the table and its index, which it reads
  dl_engine *engine;
  Py_buffer table, index;
  int32_t categorical, numeric;
};

int run(const Loaded &loaded, const int32_t *ids, const float *values, Py_ssize_t rows, int threads, bool probabilities,
        float *out) {
  const auto one = probabilities ? dl_score : dl_logits;
  dl_error error;
  if (rows <= kHeldRows) return one(loaded.engine, ids, values, rows, out, &error);
  int code;
  Py_BEGIN_ALLOW_THREADS
  code = (probabilities ? dl_score_threads : dl_logits_threads)(loaded.engine, ids, values, rows, threads, out, &error);
  Py_END_ALLOW_THREADS
  return code;
}

void release(PyObject *capsule) {
  auto *loaded = static_cast<Loaded *>(PyCapsule_GetPointer(capsule, kCapsule));
  dl_free(loaded->engine);
  PyBuffer_Release(&loaded->table);
  PyBuffer_Release(&loaded->index);
  delete loaded;
}

bool take_csr(PyObject *tuple, dl_csr &out, Array (&arrays)[3]) {
  PyObject *indptr, *indices, *values;
  if (!PyArg_ParseTuple(tuple, "OOOi", &indptr, &indices, &values, &out.columns)) return false;
  if (!arrays[0].take(indptr, 'i') || !arrays[1].take(indices, 'i') || !arrays[2].take(values, 'f')) return false;
  if (arrays[0].size() < 1 || arrays[1].size() != arrays[2].size()) {
    PyErr_SetString(PyExc_ValueError, "a sparse matrix whose arrays do not fit");
    return false;
  }
  out.rows = static_cast<int32_t>(arrays[0].size() - 1);
  out.entries = static_cast<int32_t>(arrays[1].size());
  out.indptr = arrays[0].ints(), out.indices = arrays[1].ints(), out.values = arrays[2].floats();
  return true;
}

struct LayerArrays {
  Array csr[3], bias;
};

// The table and its index, whose sizes must fit the fields; `check` of dl_load sees only where packed rows begin.
bool take_table(PyObject *table, PyObject *index, dl_model &m, Array &table_array, Array &index_array) {
  constexpr struct { char kind; int bytes; } kItems[] = {{'f', 4}, {'H', 2}, {'B', 1}, {'I', 4}};
  if (m.table_format < DL_TABLE_F32 || m.table_format > DL_TABLE_PACKED) {
    PyErr_SetString(PyExc_ValueError, "a table of no format that is known");
    return false;
  }
  const auto &item = kItems[m.table_format];
  if (!table_array.take(table, item.kind, 0, item.bytes) || !index_array.take(index, 'I')) return false;
  int64_t rows = m.numeric;
  for (int c = 0; c < m.categorical; c++) rows += m.sizes[c];
  m.table = table_array.view.buf;
  m.table_index = static_cast<const uint32_t *>(index_array.view.buf);
  const int64_t items[] = {m.width, (m.dim + 16) / 16 * 16, (m.dim + 19) / 16 * 16};
  const int64_t found = table_array.view.len / item.bytes;
  const bool fits = m.table_format == DL_TABLE_PACKED
                        ? index_array.size() == rows + 1 && rows > 0 && found == m.table_index[rows] + int64_t{1}
                        : found == rows * items[m.table_format];
  if (!fits || m.width < 1 || m.dim < 0) PyErr_SetString(PyExc_ValueError, "a table whose size does not fit its fields");
  return fits && m.width >= 1 && m.dim >= 0;
}

// load(level or None, sizes, table, index, (numeric, dim, width, bias, all_pairs, net_input, table_format),
//      quadratic, products, ((csr, bias), ...), output) -> capsule; a csr is (indptr, indices, values, columns)
PyObject *load(PyObject *, PyObject *args) {
  const char *level;
  PyObject *sizes, *table, *index, *settings, *quadratic, *products, *layers, *output;
  dl_model m{};
  Array sizes_array, products_array, output_array, quadratic_arrays[3];
  if (!PyArg_ParseTuple(args, "zOOOOOOOO", &level, &sizes, &table, &index, &settings, &quadratic, &products, &layers,
                        &output) ||
      !PyArg_ParseTuple(settings, "iiifiii", &m.numeric, &m.dim, &m.width, &m.bias, &m.all_pairs, &m.net_input,
                        &m.table_format) ||
      !sizes_array.take(sizes, 'i') || !products_array.take(products, 'i') || !output_array.take(output, 'f') ||
      !take_csr(quadratic, m.quadratic, quadratic_arrays))
    return nullptr;
  const Py_ssize_t count = PyTuple_Size(layers);
  if (count < 0) return nullptr;
  std::vector<LayerArrays> arrays(count);
  std::vector<dl_layer> made(count);
  for (Py_ssize_t i = 0; i < count; i++) {
    PyObject *csr, *bias;
    if (!PyArg_ParseTuple(PyTuple_GetItem(layers, i), "OO", &csr, &bias) ||
        !take_csr(csr, made[i].weights, arrays[i].csr) || !arrays[i].bias.take(bias, 'f'))
      return nullptr;
    if (arrays[i].bias.size() != made[i].weights.rows) {
      PyErr_SetString(PyExc_ValueError, "a layer whose bias does not fit");
      return nullptr;
    }
    made[i].bias = arrays[i].bias.floats();
  }
  m.categorical = static_cast<int32_t>(sizes_array.size()), m.sizes = sizes_array.ints();
  m.products = static_cast<int32_t>(products_array.size() / 2), m.product_fields = products_array.ints();
  m.layers = static_cast<int32_t>(count), m.layer = made.data();
  m.outputs = static_cast<int32_t>(output_array.size()), m.output = output_array.floats();
  Array table_array, index_array;
  if (!take_table(table, index, m, table_array, index_array)) return nullptr;
  dl_error error;
  dl_engine *engine = dl_load(&m, level, &error);
  if (!engine) {
    PyErr_SetString(PyExc_ValueError, error.text);
    return nullptr;
  }
  auto *loaded = new Loaded{engine, table_array.view, index_array.view, m.categorical, m.numeric};
  table_array.held = index_array.held = false;  // the capsule's now
  return PyCapsule_New(loaded, kCapsule, release);
}

// score(capsule, ids, values, out, probabilities, threads) -> 0, or what is wrong with the rows
PyObject *score(PyObject *, PyObject *args) {
  PyObject *capsule, *ids_object, *values_object, *out_object;
  int probabilities, threads;
  Array ids, values, out;
  if (!PyArg_ParseTuple(args, "OOOOii", &capsule, &ids_object, &values_object, &out_object, &probabilities, &threads))
    return nullptr;
  auto *loaded = static_cast<Loaded *>(PyCapsule_GetPointer(capsule, kCapsule));
  if (!loaded || !ids.take(ids_object, 'i') || !values.take(values_object, 'f') ||
      !out.take(out_object, 'f', PyBUF_WRITABLE))
    return nullptr;
  const Py_ssize_t rows = out.size();
  const auto fits = [rows](const Py_buffer &view, int32_t columns) {
    return view.ndim == 2 && view.shape[0] == rows && view.shape[1] == columns;
  };
  if (!fits(ids.view, loaded->categorical) || !fits(values.view, loaded->numeric)) {
    PyErr_SetString(PyExc_ValueError, "ids or values do not have the model's shape");
    return nullptr;
  }
  return PyLong_FromLong(run(*loaded, ids.ints(), values.floats(), rows, threads, probabilities,
                             static_cast<float *>(out.view.buf)));
}

// latencies(capsule, ids, values, out) -> 0, or what is wrong with a row: nanoseconds i64[row] of scoring each row
// by a call of its own, taken in here
PyObject *latencies(PyObject *, PyObject *args) {
  PyObject *capsule, *ids_object, *values_object, *out_object;
  Array ids, values, out;
  if (!PyArg_ParseTuple(args, "OOOO", &capsule, &ids_object, &values_object, &out_object)) return nullptr;
  auto *loaded = static_cast<Loaded *>(PyCapsule_GetPointer(capsule, kCapsule));
  if (!loaded || !ids.take(ids_object, 'i') || !values.take(values_object, 'f') ||
      !out.take(out_object, 'l', PyBUF_WRITABLE, 8))
    return nullptr;
  const Py_ssize_t rows = out.view.len / 8;
  if (ids.size() != rows * loaded->categorical || values.size() != rows * loaded->numeric) {
    PyErr_SetString(PyExc_ValueError, "ids or values do not have the model's shape");
    return nullptr;
  }
  auto *nanoseconds = static_cast<int64_t *>(out.view.buf);
  int code = DL_OK;
  for (Py_ssize_t r = 0; r < rows && code == DL_OK; r++) {
    float score;
    dl_error error;
    const auto start = std::chrono::steady_clock::now();
    code = dl_score(loaded->engine, ids.ints() + r * loaded->categorical, values.floats() + r * loaded->numeric, 1,
                    &score, &error);
    nanoseconds[r] = std::chrono::nanoseconds(std::chrono::steady_clock::now() - start).count();
  }
  return PyLong_FromLong(code);
}

// What a direct call needs; its fields but `loaded` are borrowed from `kept`.
struct Direct {
  Loaded *loaded;
  bool probabilities;
  int threads;
  PyObject *slow, *empty, *dtype, *one;  // one: the arguments of empty for one row
  PyObject *kept;
};

void release_direct(PyObject *capsule) {
  auto *direct = static_cast<Direct *>(PyCapsule_GetPointer(capsule, kDirect));
  Py_DECREF(direct->kept);
  delete direct;
}

// What scores by f(ids, values), where both are plain arrays; whatever else is handed on to direct->slow.
PyObject *call_direct(PyObject *self, PyObject *const *args, Py_ssize_t count) {
  auto *direct = static_cast<Direct *>(PyCapsule_GetPointer(self, kDirect));
  if (!direct) return nullptr;
  if (count != 2) {
    PyErr_SetString(PyExc_TypeError, "score takes ids and values");
    return nullptr;
  }
  const Loaded &loaded = *direct->loaded;
  const NdArray *ids = plain(args[0], layout.ids), *values = plain(args[1], layout.values);
  if (ids && values && ids->nd == 2 && values->nd == 2 && ids->shape[0] == values->shape[0] &&
      ids->shape[1] == loaded.categorical && values->shape[1] == loaded.numeric) {
    const Py_ssize_t rows = ids->shape[0];
    PyObject *out = rows == 1 ? PyObject_Call(direct->empty, direct->one, nullptr)
                              : PyObject_CallFunction(direct->empty, "nO", rows, direct->dtype);
    if (!out) return nullptr;
    const NdArray *scores = plain(out, layout.values);
    if (scores && run(loaded, reinterpret_cast<const int32_t *>(ids->data),
                      reinterpret_cast<const float *>(values->data), rows, direct->threads, direct->probabilities,
                      reinterpret_cast<float *>(scores->data)) == DL_OK)
      return out;
    Py_DECREF(out);
  }
  return PyObject_CallFunctionObjArgs(direct->slow, args[0], args[1], nullptr);
}

PyMethodDef direct_method = {"score", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(call_direct)),
                             METH_FASTCALL, nullptr};

// direct(capsule, probabilities, threads, slow, empty, dtype) -> f(ids, values)
PyObject *direct(PyObject *, PyObject *args) {
  PyObject *capsule, *slow, *empty, *dtype;
  int probabilities, threads;
  if (!PyArg_ParseTuple(args, "OiiOOO", &capsule, &probabilities, &threads, &slow, &empty, &dtype)) return nullptr;
  auto *loaded = static_cast<Loaded *>(PyCapsule_GetPointer(capsule, kCapsule));
  if (!loaded) return nullptr;
  PyObject *one = Py_BuildValue("(iO)", 1, dtype);
  PyObject *kept = one ? Py_BuildValue("(OOON)", capsule, slow, empty, one) : nullptr;  // one holds dtype
  if (!kept) return nullptr;
  auto *made = new Direct{loaded, probabilities != 0, threads, slow, empty, dtype, one, kept};
  PyObject *self = PyCapsule_New(made, kDirect, release_direct);
  if (!self) {
    Py_DECREF(kept);
    delete made;
    return nullptr;
  }
  PyObject *function = PyCFunction_NewEx(&direct_method, self, nullptr);
  Py_DECREF(self);
  return function;
}

// learn(i32[2, 3], f32[2, 3]) -> whether NumPy's arrays are laid out as NdArray says
PyObject *learn(PyObject *, PyObject *args) {
  PyObject *ids, *values;
  if (!PyArg_ParseTuple(args, "OO", &ids, &values)) return nullptr;
  layout = {};
  Layout found;
  if (found.learn(ids, 'i', found.ids) && found.learn(values, 'f', found.values)) layout = found;
  if (PyErr_Occurred()) return nullptr;
  return PyBool_FromLong(layout.type != nullptr);
}

PyObject *level(PyObject *, PyObject *capsule) {
  auto *loaded = static_cast<Loaded *>(PyCapsule_GetPointer(capsule, kCapsule));
  return loaded ? PyUnicode_FromString(dl_level(loaded->engine)) : nullptr;
}

PyMethodDef methods[] = {
    {"load", load, METH_VARARGS, nullptr},
    {"score", score, METH_VARARGS, nullptr},
    {"direct", direct, METH_VARARGS, nullptr},
    {"learn", learn, METH_VARARGS, nullptr},
    {"latencies", latencies, METH_VARARGS, nullptr},
    {"level", level, METH_O, nullptr},
    {nullptr, nullptr, 0, nullptr},
};
PyModuleDef module = {PyModuleDef_HEAD_INIT, "_deeplight", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__deeplight() { return PyModule_Create(&module); }
