#include "to_numpy.h"

#include <c10/core/impl/TorchDispatchModeTLS.h>
#include <torch/csrc/autograd/python_variable.h>

#include <optional>

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
// The engine of both, the Python object that it belongs to, and what makes a Transfer of a pending submission.
Engine* engine = nullptr;
PyObject* engine_object = nullptr;
PyObject* transfer_type = nullptr;

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
           !c10::impl::TorchDispatchModeTLS::any_modes_set() && !engine->profiling().active();
}

// Nothing, and no Python error, where a capture is in the way: nothing was enqueued, and the slow path has the words.
std::optional<Reference> start(const at::Tensor& given, bool blocking) {
    // Held, so that no other thread can swap the tensor of the caller's object while the GIL is away. Dropped with it.
    const at::Tensor tensor = given;
    SubmitOptions options;
    options.blocking = blocking;
    try {
        return Reference(start_transfer(engine_object, *engine, tensor, {}, options, nullptr));
    } catch (const CapturedError&) {
        return std::nullopt;
    }
}

PyObject* transfer_of(PyObject* pending) {
    return PyObject_CallOneArg(transfer_type, pending);
}

PyObject* result_of(PyObject* pending) {
    if (pending == nullptr || !wait_for(pending)) return nullptr;
    if (PyObject* array = unchanged_array(pending)) return array;
    // It has the words for what went wrong.
    const Reference transfer(transfer_of(pending));
    return transfer == nullptr ? nullptr : PyObject_CallMethod(transfer.get(), "result", nullptr);
}

// Both answer nothing where only the slow path can.

std::optional<PyObject*> convert(const at::Tensor& tensor) {
    if (is_simple_view(tensor)) return make_view(tensor);
    const auto pending = start(tensor, /*blocking=*/true);
    if (!pending.has_value()) return std::nullopt;
    return result_of(pending->get());
}

std::optional<PyObject*> start_async(const at::Tensor& tensor) {
    const auto pending = start(tensor, /*blocking=*/false);
    if (!pending.has_value()) return std::nullopt;
    return *pending == nullptr ? nullptr : transfer_of(pending->get());
}

PyObject* call(std::optional<PyObject*> (*answer)(const at::Tensor&), const Front& front, PyObject* const* args,
               Py_ssize_t count, PyObject* keywords) {
    const at::Tensor* tensor = only_plain_tensor(args, count, keywords);
    return translating_errors([=, &front] {
        const auto answered = tensor == nullptr ? std::nullopt : answer(*tensor);
        if (answered.has_value()) return *answered;
        return PyObject_Vectorcall(front.slow, args, static_cast<std::size_t>(count), keywords);
    });
}

PyObject* to_numpy(PyObject*, PyObject* const* args, Py_ssize_t count, PyObject* keywords) {
    return call(convert, front, args, count, keywords);
}

PyObject* to_numpy_async(PyObject*, PyObject* const* args, Py_ssize_t count, PyObject* keywords) {
    return call(start_async, async_front, args, count, keywords);
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

PyObject* make_one(const FrontOf& of, Front& front, const char* name, Function function) {
    engine = &of.engine;
    keep(engine_object, of.self);
    keep(transfer_type, of.transfer);
    return make(front, name, function, of.slow, of.doc);
}

}  // namespace

PyObject* make_to_numpy(const FrontOf& of) {
    return make_one(of, front, "to_numpy", to_numpy);
}

PyObject* make_to_numpy_async(const FrontOf& of) {
    return make_one(of, async_front, "to_numpy_async", to_numpy_async);
}

}  // namespace tnb
