#include "to_numpy.h"

#include <c10/core/impl/TorchDispatchModeTLS.h>
#include <torch/csrc/autograd/python_variable.h>

#include <string>

#include "dtypes.h"
#include "engine.h"
#include "numpy_array.h"
#include "storage.h"

namespace tnb {
namespace {

PyObject* slow_path = nullptr;

// Subclasses and active dispatch modes are left to the slow path, which knows how to ask or refuse them.
bool is_simple_view(PyObject* object) {
    if (!THPVariable_CheckExact(object)) return false;
    const at::Tensor& tensor = THPVariable_Unpack(object);
    return tensor.is_cpu() && is_plain(tensor) && !tensor.is_conj() && !tensor.is_neg() &&
           numpy_dtype(tensor.scalar_type()) != nullptr && storage_reaches(tensor) &&
           !c10::impl::TorchDispatchModeTLS::any_modes_set();
}

PyObject* to_numpy(PyObject*, PyObject* const* args, Py_ssize_t count, PyObject* keywords) {
    if (count == 1 && keywords == nullptr) {
        try {
            if (is_simple_view(args[0])) return make_view(THPVariable_Unpack(args[0]));
        } catch (const std::exception& error) {
            PyErr_SetString(PyExc_RuntimeError, error.what());
            return nullptr;
        }
    }
    return PyObject_Vectorcall(slow_path, args, static_cast<std::size_t>(count), keywords);
}

}  // namespace

PyObject* make_to_numpy(PyObject* slow, const char* doc) {
    // Both live as long as the function, which lives as long as the process.
    static std::string text;
    static PyMethodDef definition = {"to_numpy", nullptr, METH_FASTCALL | METH_KEYWORDS, nullptr};
    text = doc;
    definition.ml_meth = reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&to_numpy));
    definition.ml_doc = text.c_str();
    Py_INCREF(slow);
    Py_XDECREF(slow_path);
    slow_path = slow;
    PyObject* module = PyUnicode_FromString("torch_np_bridge");
    if (module == nullptr) return nullptr;
    // No self, but a module name: that is what makes a C function picklable by name.
    PyObject* function = PyCFunction_NewEx(&definition, nullptr, module);
    Py_DECREF(module);
    return function;
}

}  // namespace tnb
