#include "dtypes.h"

#include <Python.h>

#include <array>

namespace tnb {
namespace {
// References that live as long as the process.
std::array<PyObject*, static_cast<std::size_t>(c10::ScalarType::NumOptions) + 1> table{};
}  // namespace

void set_numpy_dtype(c10::ScalarType type, PyObject* numpy_dtype) {
    PyObject*& row = table.at(static_cast<std::size_t>(type));
    Py_INCREF(numpy_dtype);
    Py_XDECREF(row);
    row = numpy_dtype;
}

PyObject* numpy_dtype(c10::ScalarType type) noexcept {
    const auto index = static_cast<std::size_t>(type);
    return index < table.size() ? table[index] : nullptr;
}

}  // namespace tnb
