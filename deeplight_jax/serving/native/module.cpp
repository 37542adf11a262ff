// The engine as a Python module, by the stable ABI and the buffer protocol alone: no NumPy headers, one binary
// for every Python from 3.11 on.
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <cstring>
#include <vector>

#include "deeplight.h"

namespace {

constexpr const char *kCapsule = "deeplight_jax.engine";
constexpr Py_ssize_t kHeldRows = 8;  // so few rows take no longer than giving the GIL away and back

struct Loaded {  // an engine and the table it reads
  dl_engine *engine;
  Py_buffer table;
  int32_t categorical, numeric;
};

// A C-contiguous array of 4-byte items, released when it goes out of scope.
struct Array {
  Py_buffer view{};
  bool held = false;

  bool take(PyObject *object, char kind, int flags = 0) {
    held = PyObject_GetBuffer(object, &view, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS | flags) == 0;
    if (!held) return false;
    if (view.itemsize == 4 && view.format && view.format[0] == kind && !view.format[1]) return true;
    PyErr_Format(PyExc_TypeError, "an array of 4-byte '%c' is wanted, not '%s'", kind, view.format);
    return false;
  }
  Py_ssize_t size() const { return view.len / 4; }
  const int32_t *ints() const { return static_cast<const int32_t *>(view.buf); }
  const float *floats() const { return static_cast<const float *>(view.buf); }
  ~Array() {
    if (held) PyBuffer_Release(&view);
  }
};

void release(PyObject *capsule) {
  auto *loaded = static_cast<Loaded *>(PyCapsule_GetPointer(capsule, kCapsule));
  dl_free(loaded->engine);
  PyBuffer_Release(&loaded->table);
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

// load(level or None, sizes, table, (numeric, dim, width, bias, all_pairs, net_input), quadratic, products,
//      ((csr, bias), ...), output) -> capsule; a csr is (indptr, indices, values, columns)
PyObject *load(PyObject *, PyObject *args) {
  const char *level;
  PyObject *sizes, *table, *settings, *quadratic, *products, *layers, *output;
  dl_model m{};
  Array sizes_array, products_array, output_array, quadratic_arrays[3];
  if (!PyArg_ParseTuple(args, "zOOOOOOO", &level, &sizes, &table, &settings, &quadratic, &products, &layers,
                        &output) ||
      !PyArg_ParseTuple(settings, "iiifii", &m.numeric, &m.dim, &m.width, &m.bias, &m.all_pairs, &m.net_input) ||
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
  Array table_array;
  if (!table_array.take(table, 'f')) return nullptr;
  m.table = table_array.floats();
  int64_t rows = m.numeric;
  for (int c = 0; c < m.categorical; c++) rows += m.sizes[c];
  if (m.width < 1 || table_array.size() != rows * m.width) {
    PyErr_SetString(PyExc_ValueError, "a table whose size does not fit its fields");
    return nullptr;
  }
  dl_error error;
  dl_engine *engine = dl_load(&m, level, &error);
  if (!engine) {
    PyErr_SetString(PyExc_ValueError, error.text);
    return nullptr;
  }
  auto *loaded = new Loaded{engine, table_array.view, m.categorical, m.numeric};
  table_array.held = false;  // the capsule's now
  return PyCapsule_New(loaded, kCapsule, release);
}

// score(capsule, ids, values, out, probabilities) -> 0, or what is wrong with the rows
PyObject *score(PyObject *, PyObject *const *args, Py_ssize_t count) {
  if (count != 5) {
    PyErr_SetString(PyExc_TypeError, "score takes 5 arguments");
    return nullptr;
  }
  auto *loaded = static_cast<Loaded *>(PyCapsule_GetPointer(args[0], kCapsule));
  Array ids, values, out;
  if (!loaded || !ids.take(args[1], 'i') || !values.take(args[2], 'f') ||
      !out.take(args[3], 'f', PyBUF_WRITABLE))
    return nullptr;
  const Py_ssize_t rows = out.size();
  const auto fits = [rows](const Py_buffer &view, int32_t columns) {
    return view.ndim == 2 && view.shape[0] == rows && view.shape[1] == columns;
  };
  if (!fits(ids.view, loaded->categorical) || !fits(values.view, loaded->numeric)) {
    PyErr_SetString(PyExc_ValueError, "ids or values do not have the model's shape");
    return nullptr;
  }
  const auto run = PyObject_IsTrue(args[4]) ? dl_score : dl_logits;
  auto *scores = static_cast<float *>(out.view.buf);
  dl_error error;
  int code;
  if (rows <= kHeldRows) {
    code = run(loaded->engine, ids.ints(), values.floats(), rows, scores, &error);
  } else {
    Py_BEGIN_ALLOW_THREADS
    code = run(loaded->engine, ids.ints(), values.floats(), rows, scores, &error);
    Py_END_ALLOW_THREADS
  }
  return PyLong_FromLong(code);
}

PyObject *level(PyObject *, PyObject *capsule) {
  auto *loaded = static_cast<Loaded *>(PyCapsule_GetPointer(capsule, kCapsule));
  return loaded ? PyUnicode_FromString(dl_level(loaded->engine)) : nullptr;
}

PyMethodDef methods[] = {
    {"load", load, METH_VARARGS, nullptr},
    {"score", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(score)), METH_FASTCALL, nullptr},
    {"level", level, METH_O, nullptr},
    {nullptr, nullptr, 0, nullptr},
};
PyModuleDef module = {PyModuleDef_HEAD_INIT, "_deeplight", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__deeplight() { return PyModule_Create(&module); }
