#pragma once

#include <Python.h>
#include <c10/core/Storage.h>
#include <c10/util/SmallVector.h>
#include <unistd.h>

#include <memory>

namespace tnb {

// When the interpreter is shutting down, Python up to 3.13 ends a daemon thread that asks for the GIL by
// pthread_exit(), that is by unwinding, and a noexcept function that is unwound ends the whole process. Such a thread
// is parked here instead, as Python 3.14 does by itself; the process goes on with its exit.
template <class Take>
void take_gil_or_park(Take&& take) noexcept {
    try {
        take();
    } catch (...) {
        for (;;) pause();
    }
}

// Gives the GIL away for a scope.
class GilRelease {
public:
    GilRelease() noexcept : state_(PyEval_SaveThread()) {}
    GilRelease(const GilRelease&) = delete;
    GilRelease& operator=(const GilRelease&) = delete;
    ~GilRelease() {
        take_gil_or_park([this] { PyEval_RestoreThread(state_); });
    }

private:
    PyThreadState* state_;
};

// Once another thread ends the process: gives it time to, and this thread ends with it, silently. Not for good, since
// the end may wait for this thread. Called with the GIL.
void let_process_end();

// Keeps a Python object alive, and is dropped by any thread, with or without the GIL. Made with the GIL.
std::shared_ptr<void> keep_alive(PyObject* object);

// Calls a Python object without arguments, from a thread without the GIL; not any more once the process exits. What it
// raises is reported as that of a destructor is.
void call(PyObject* function) noexcept;

// Lets go of storages, from a thread with or without the GIL. Torch takes the GIL where the last reference of C++ to a
// storage goes that Python knows, and does so where it cannot be parked: so it is taken here, for those only.
void drop(c10::SmallVectorImpl<c10::Storage>&& storages) noexcept;

}  // namespace tnb
