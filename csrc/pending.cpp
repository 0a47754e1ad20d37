#include "pending.h"

#include <ATen/record_function.h>
#include <Python.h>
#include <torch/csrc/Stream.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gil.h"
#include "numpy_array.h"
#include "process.h"
#include "python_errors.h"
#include "python_wait.h"
#include "references.h"
#include "warnings.h"

namespace tnb {
namespace {

struct Pending {
    PyObject_HEAD PyObject* self;  // of the engine: keeps it alive
    Engine* engine;
    Transfer transfer;
    std::shared_ptr<ProfiledCall> profiled;  // or nullptr
    PyObject* arrays;
};

Pending& pending_at(PyObject* object) {
    return *reinterpret_cast<Pending*>(object);
}

// A caller's array may have an attribute that leads back here. No clear is needed: whatever has such attributes has
// one.
int traverse(PyObject* object, visitproc visit, void* arg) {
    Py_VISIT(pending_at(object).arrays);
    return 0;
}

void dealloc(PyObject* object) {
    PyObject_GC_UnTrack(object);
    Pending& pending = pending_at(object);
    if (!pending.transfer.ended()) {
        if (process_is_forked_child()) {
            new Transfer(std::move(pending.transfer));  // it belongs to the parent
        } else {
            pending.engine->release_when_ended();
        }
    }
    Py_XDECREF(pending.arrays);
    pending.transfer.~Transfer();
    pending.profiled.~shared_ptr();
    Py_DECREF(pending.self);
    Py_TYPE(object)->tp_free(object);
}

PyObject* done(PyObject* object, PyObject*) {
    return translating_errors([object] {
        bool ended = false;
        {
            const GilRelease release;
            ended = pending_at(object).transfer.done();
        }
        return PyBool_FromLong(ended);
    });
}

Clock::time_point deadline_in(double seconds) {
    // Beyond a year a clock's arithmetic may overflow, and nobody can tell the difference.
    constexpr double year = 365.0 * 24 * 3600;
    if (seconds >= year) return Clock::time_point::max();
    return Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

// A range for torch's profiler, as RECORD_FUNCTION makes one; where nobody records it costs a look and nothing more.
void begin_range(std::optional<at::RecordFunction>& range, const char* name, at::ArrayRef<at::Tensor> tensors) {
    auto callbacks = at::getStepCallbacksUnlessEmpty(at::RecordScope::FUNCTION);
    if (!callbacks.has_value()) return;
    range.emplace(std::move(*callbacks));
    if (!range->needsInputs()) return range->before(name);
    const std::vector<c10::IValue> inputs(tensors.begin(), tensors.end());
    range->before(name, c10::ArrayRef<const c10::IValue>(inputs.data(), inputs.size()));
}

// Nothing where a signal has set a Python error.
std::optional<bool> wait_until(Pending& pending, Clock::time_point deadline) {
    std::optional<at::RecordFunction> range;
    begin_range(range, "torch_np_bridge::wait", {});
    const ProfiledWait profiled(pending.profiled.get());
    return wait_in_slices(deadline, [&pending](auto... slice) { return pending.transfer.wait_until(slice...); });
}

PyObject* wait(PyObject* object, PyObject* timeout) {
    Clock::time_point deadline = Clock::time_point::max();
    if (timeout != Py_None) {
        const double seconds = PyFloat_AsDouble(timeout);
        if (seconds == -1.0 && PyErr_Occurred() != nullptr) return nullptr;
        deadline = deadline_in(seconds);
    }
    return translating_errors([object, deadline]() -> PyObject* {
        const auto ended = wait_until(pending_at(object), deadline);
        return ended.has_value() ? PyBool_FromLong(*ended) : nullptr;
    });
}

// A thread that is told what the end of the process did to its copy would print it into that end.
void rethrow_error(Transfer& transfer) {
    if (transfer.has_error()) let_process_end();
    transfer.rethrow_error();
}

PyObject* arrays(PyObject* object, PyObject*) {
    return translating_errors([object] {
        rethrow_error(pending_at(object).transfer);
        Py_INCREF(pending_at(object).arrays);
        return pending_at(object).arrays;
    });
}

PyObject* mutated_leaf(PyObject* object, PyObject*) {
    return translating_errors([object]() -> PyObject* {
        const auto leaf = pending_at(object).transfer.mutated_leaf();
        if (leaf.has_value()) return PyLong_FromSize_t(*leaf);
        Py_RETURN_NONE;
    });
}

PyObject* add_done_callback(PyObject* object, PyObject* function) {
    return translating_errors([object, function]() -> PyObject* {
        auto notify = [kept = keep_alive(function)] { call(static_cast<PyObject*>(kept.get())); };
        {
            const GilRelease release;
            const Pending& pending = pending_at(object);
            pending.engine->when_ended(std::make_shared<Transfer>(pending.transfer), std::move(notify));
        }
        Py_RETURN_NONE;
    });
}

PyObject* block_stream(PyObject* object, PyObject* stream) {
    std::optional<c10::Stream> target;
    if (stream != Py_None) {
        // Not THPStream_Check: that believes what an object says of its class.
        if (PyType_IsSubtype(Py_TYPE(stream), reinterpret_cast<PyTypeObject*>(THPStreamClass)) == 0) {
            PyErr_SetString(PyExc_TypeError, "expected a torch.Stream or None");
            return nullptr;
        }
        const auto* given = reinterpret_cast<THPStream*>(stream);
        target = c10::Stream::unpack3(given->stream_id, static_cast<c10::DeviceIndex>(given->device_index),
                                      static_cast<c10::DeviceType>(given->device_type));
    }
    return translating_errors([object, target]() -> PyObject* {
        Transfer& transfer = pending_at(object).transfer;
        const auto events = [&transfer](auto... slice) { return transfer.wait_for_events(slice...); };
        if (!wait_in_slices(Clock::time_point::max(), events).has_value()) return nullptr;
        {
            const GilRelease release;
            transfer.block(target);
        }
        Py_RETURN_NONE;
    });
}

PyMethodDef methods[] = {
    {"done", done, METH_NOARGS, "done(self) -> bool"},
    {"wait", wait, METH_O, "wait(self, timeout: float | None) -> bool"},
    {"arrays", arrays, METH_NOARGS, "arrays(self) -> list"},
    {"mutated_leaf", mutated_leaf, METH_NOARGS, "mutated_leaf(self) -> int | None"},
    {"add_done_callback", add_done_callback, METH_O, "add_done_callback(self, function: Callable) -> None"},
    {"block_stream", block_stream, METH_O, "block_stream(self, stream: torch.Stream | None) -> None"},
    {nullptr, nullptr, 0, nullptr},
};

PyTypeObject pending_type = [] {
    PyTypeObject type{};
    type.ob_base = PyVarObject{PyObject_HEAD_INIT(nullptr) 0};
    type.tp_name = "torch_np_bridge._C.Pending";
    type.tp_doc = "A submission of the native engine.";
    type.tp_basicsize = sizeof(Pending);
    type.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_HAVE_GC;
    type.tp_traverse = traverse;
    type.tp_dealloc = dealloc;
    type.tp_free = PyObject_GC_Del;
    type.tp_methods = methods;
    return type;
}();

// The array of one leaf, or the caller's own in its place.
Reference array_for(HostValues values, PyObject* given) {
    if (given == nullptr) return Reference(make_array(std::move(values)));
    Reference array = new_reference(given);
    const auto* tensor = std::get_if<at::Tensor>(&values);
    if (tensor != nullptr && !fill_array(given, *tensor)) return nullptr;
    return array;
}

// Where NumPy refuses an array, the end of what was made lets go of the copies that are under way.
Reference make_pending(PyObject* self, Engine& engine, Submission submission, PyObject* out) {
    auto* pending = PyObject_GC_New(Pending, &pending_type);
    if (pending == nullptr) return nullptr;
    Reference made(reinterpret_cast<PyObject*>(pending));
    pending->self = new_reference(self).release();
    pending->engine = &engine;
    new (&pending->transfer) Transfer(std::move(submission.transfer));
    new (&pending->profiled) std::shared_ptr<ProfiledCall>(std::move(submission.profiled));
    pending->arrays = nullptr;
    // No list before it is full: filling an array of the caller's may give the GIL away, and the garbage collector
    // shows every list to whoever asks.
    References arrays;
    for (std::size_t index = 0; index < submission.values.size(); ++index) {
        const auto place = static_cast<Py_ssize_t>(index);
        PyObject* given = out == nullptr ? nullptr : PyList_GET_ITEM(out, place);
        Reference array = array_for(std::move(submission.values[index]), given);
        if (array == nullptr) return nullptr;
        arrays.add(std::move(array));
    }
    pending->arrays = std::move(arrays).into_list().release();
    if (pending->arrays == nullptr) return nullptr;
    if (out != nullptr) PyObject_GC_Track(made.get());  // arrays that are made here lead nowhere
    return made;
}

}  // namespace

PyTypeObject* init_pending() {
    return PyType_Ready(&pending_type) == 0 ? &pending_type : nullptr;
}

PyObject* start_transfer(PyObject* self, Engine& engine, at::ArrayRef<at::Tensor> tensors,
                         at::ArrayRef<Destination> destinations, const SubmitOptions& options, PyObject* out) {
    const KeptWarnings warnings;
    Submission submission;
    {
        const GilRelease release;
        // With the tensors, of which torch's profiler shows the shapes where it is asked for them.
        std::optional<at::RecordFunction> range;
        begin_range(range, "torch_np_bridge::submit", tensors);
        submission = engine.submit(tensors, destinations, options);
    }
    Reference pending = make_pending(self, engine, std::move(submission), out);
    if (pending == nullptr) return nullptr;
    for (const std::string& text : warnings.texts()) {
        if (PyErr_WarnEx(PyExc_UserWarning, text.c_str(), 1) != 0) return nullptr;
    }
    return pending.release();
}

bool wait_for(PyObject* pending) {
    return wait_until(pending_at(pending), Clock::time_point::max()).has_value();
}

PyObject* unchanged_array(PyObject* pending) {
    Pending& ended = pending_at(pending);
    rethrow_error(ended.transfer);
    if (ended.transfer.mutated_leaf().has_value()) return nullptr;
    return new_reference(PyList_GET_ITEM(ended.arrays, 0)).release();
}

}  // namespace tnb
