// Arrays from Python: by the buffer protocol, or at once where NumPy's layout is as it is known to be.
#pragma once

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <cstdint>

namespace {

// A C-contiguous array of 4-byte items, released when it goes out of scope.
struct Array {
  Py_buffer view{};
  bool held = false;

  bool take(PyObject *object, char kind, int flags = 0, Py_ssize_t bytes = 4) {
    held = PyObject_GetBuffer(object, &view, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS | flags) == 0;
    if (!held) return false;
    if (view.itemsize == bytes && view.format && view.format[0] == kind && !view.format[1]) return true;
    PyErr_Format(PyExc_TypeError, "an array of %zd-byte '%c' is wanted, not '%s'", bytes, kind, view.format);
    return false;
  }
  Py_ssize_t size() const { return view.len / 4; }
  const int32_t *ints() const { return static_cast<const int32_t *>(view.buf); }
  const float *floats() const { return static_cast<const float *>(view.buf); }
  ~Array() {
    if (held) PyBuffer_Release(&view);
  }
};

// The head of NumPy's array object, which its ABI has fixed since 1.7: extensions read these fields inline. The
// buffer protocol takes 0.2 us an array, a tenth of scoring a row.
struct NdArray {
  PyObject_HEAD
  char *data;
  int nd;
  Py_ssize_t *shape, *strides;
  PyObject *base, *dtype;
  int flags;
};
constexpr int kPlain = 0x0001 | 0x0100;  // C-contiguous and aligned

// What NumPy's own arrays have been seen to look like, by comparison with the buffer protocol.
struct Layout {
  PyTypeObject *type = nullptr;
  PyObject *ids = nullptr, *values = nullptr;  // the dtypes, i32 and f32, which live as long as NumPy

  // Whether a probe, [2, 3] of 4-byte items, is read as it is.
  bool learn(PyObject *probe, char kind, PyObject *&dtype) {
    Array array;
    PyObject *bytes = PyObject_GetAttrString(reinterpret_cast<PyObject *>(Py_TYPE(probe)), "__basicsize__");
    const bool fits = bytes && PyLong_AsSsize_t(bytes) >= static_cast<Py_ssize_t>(sizeof(NdArray));
    Py_XDECREF(bytes);
    if (!fits || !array.take(probe, kind)) return false;
    PyObject *own = PyObject_GetAttrString(probe, "dtype");
    const auto *seen = reinterpret_cast<const NdArray *>(probe);
    const bool same = own && seen->data == array.view.buf && seen->nd == 2 && seen->dtype == own &&
                      seen->shape && seen->shape[0] == 2 && seen->shape[1] == 3 && seen->strides &&
                      seen->strides[0] == 12 && seen->strides[1] == 4 && (seen->flags & kPlain) == kPlain;
    dtype = own;  // one reference for good
    type = Py_TYPE(probe);
    return same;
  }
};
Layout layout;

// An array that can be read at once: NumPy's own type, C-contiguous, of just this dtype; else null.
inline const NdArray *plain(PyObject *object, PyObject *dtype) {
  if (Py_TYPE(object) != layout.type) return nullptr;
  const auto *array = reinterpret_cast<const NdArray *>(object);
  return array->dtype == dtype && (array->flags & kPlain) == kPlain ? array : nullptr;
}

}  // namespace
