#include "to_numpy.h"

#include <c10/core/impl/TorchDispatchModeTLS.h>
#include <torch/csrc/autograd/python_variable.h>

#include "device.h"
#include "dtypes.h"
#include "engine.h"
#include "numpy_array.h"
#include "pending.h"
#include "python_errors.h"
#include "references.h"
#include "storage.h"

namespace tnb {
namespace {

// What is behind one of the C functions. Python keeps pointers into it.
struct Front {
    PyObject* slow = nullptr;
    std::string doc;
    PyMethodDef definition{};
};

Front front, async_front;
Engine* front_engine = nullptr;
PyObject* async_self = nullptr;
Engine* async_engine = nullptr;
PyObject* async_transfer = nullptr;

// The tensor, where it is the only argument and nothing has to be asked or refused: subclasses are left to the slow
// path.
const at::Tensor* only_plain_tensor(PyObject* const* args, Py_ssize_t count, PyObject* keywords) {
    if (count != 1 || keywords != nullptr || !THPVariable_CheckExact(args[0])) return nullptr;
    const at::Tensor& tensor = THPVariable_Unpack(args[0]);
    const bool plain = is_plain(tensor) && numpy_dtype(tensor.scalar_type()) != nullptr && storage_reaches(tensor);
    return plain ? &tensor : nullptr;
}

// A view, and neither a dispatch mode nor a profile is active that would want to hear of it.
bool is_simple_view(const at::Tensor& tensor) {
    return tensor.is_cpu() && !tensor.is_conj() && !tensor.is_neg() &&
           !c10::impl::TorchDispatchModeTLS::any_modes_set() && !front_engine->profiling().active();
}

PyObject* to_numpy(PyObject*, PyObject* const* args, Py_ssize_t count, PyObject* keywords) {
    const at::Tensor* tensor = only_plain_tensor(args, count, keywords);
    if (tensor != nullptr && is_simple_view(*tensor)) {
        return translating_errors([tensor] { return make_view(*tensor); });
    }
    return PyObject_Vectorcall(front.slow, args, static_cast<std::size_t>(count), keywords);
}

PyObject* start(const at::Tensor& given) {
    // Held, so that no other thread can swap the tensor of the caller's object while the GIL is away. Dropped with it.
    const at::Tensor tensor = given;
    const Reference pending(start_transfer(async_self, *async_engine, tensor, {}, {}, nullptr));
    return pending == nullptr ? nullptr : PyObject_CallOneArg(async_transfer, pending.get());
}

PyObject* to_numpy_async(PyObject*, PyObject* const* args, Py_ssize_t count, PyObject* keywords) {
    const at::Tensor* tensor = only_plain_tensor(args, count, keywords);
    return translating_errors([=] {
        try {
            if (tensor != nullptr) return start(*tensor);
        } catch (const CapturedError&) {
            // Nothing was enqueued, and the slow path has the words.
        }
        return PyObject_Vectorcall(async_front.slow, args, static_cast<std::size_t>(count), keywords);
    });
}

void keep(PyObject*& kept, PyObject* object) {
    Py_INCREF(object);
    Py_XDECREF(kept);
    kept = object;
}

using Function = PyObject* (*)(PyObject*, PyObject* const*, Py_ssize_t, PyObject*);

PyObject* make(Front& front, const char* name, Function function, PyObject* slow, const std::string& doc) {
    keep(front.slow, slow);
    front.doc = doc;
    front.definition = {name, reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function)),
                        METH_FASTCALL | METH_KEYWORDS, front.doc.c_str()};
    PyObject* module = PyUnicode_FromString("torch_np_bridge");
    if (module == nullptr) return nullptr;
    // No self, but a module name: that is what makes a C function picklable by name.
    PyObject* made = PyCFunction_NewEx(&front.definition, nullptr, module);
    Py_DECREF(module);
    return made;
}

}  // namespace

PyObject* make_to_numpy(PyObject* slow, const std::string& doc, Engine& engine) {
    front_engine = &engine;
    return make(front, "to_numpy", to_numpy, slow, doc);
}

PyObject* make_to_numpy_async(PyObject* slow, const std::string& doc, PyObject* self, Engine& engine,
                              PyObject* transfer) {
    keep(async_self, self);
    async_engine = &engine;
    keep(async_transfer, transfer);
    return make(async_front, "to_numpy_async", to_numpy_async, slow, doc);
}

}  // namespace tnb
