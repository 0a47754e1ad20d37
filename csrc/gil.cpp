#include "gil.h"

#include <c10/core/StorageImpl.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "process.h"

namespace tnb {

namespace {

// Calls `function` with the GIL; not any more once the process exits, since there may be no interpreter then.
template <class Function>
bool with_gil(Function&& function) noexcept {
    if (process_is_exiting()) return false;
    PyGILState_STATE state{};
    take_gil_or_park([&state] { state = PyGILState_Ensure(); });
    function();
    PyGILState_Release(state);
    return true;
}

}  // namespace

void let_process_end() {
    if (!process_exits_elsewhere()) return;
    const GilRelease release;
    std::this_thread::sleep_for(std::chrono::seconds(1));
}

std::shared_ptr<void> keep_alive(PyObject* object) {
    Py_INCREF(object);
    return {object, [](void* kept) { with_gil([kept] { Py_DECREF(static_cast<PyObject*>(kept)); }); }};
}

void call(PyObject* function) noexcept {
    with_gil([function] {
        PyObject* result = PyObject_CallNoArgs(function);
        if (result == nullptr) PyErr_WriteUnraisable(function);
        Py_XDECREF(result);
    });
}

void drop(c10::SmallVectorImpl<c10::Storage>&& storages) noexcept {
    const bool known_to_python = std::any_of(storages.begin(), storages.end(), [](const c10::Storage& storage) {
        return storage && storage.unsafeGetStorageImpl()->pyobj_slot()->load_pyobj() != nullptr;
    });
    if (!known_to_python) return storages.clear();
    if (!with_gil([&storages] { storages.clear(); })) new c10::SmallVector<c10::Storage, 1>(std::move(storages));
}

}  // namespace tnb
