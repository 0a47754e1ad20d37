#pragma once

#include <Python.h>
#include <unistd.h>

namespace tnb {

// Gives the GIL away for a scope. When the interpreter is shutting down, Python up to 3.13 ends a daemon thread that
// asks for the GIL by pthread_exit(), that is by unwinding, and a destructor that is unwound ends the whole process.
// Such a thread is parked here instead, as Python 3.14 does by itself; the process goes on with its exit.
class GilRelease {
public:
    GilRelease() noexcept : state_(PyEval_SaveThread()) {}
    GilRelease(const GilRelease&) = delete;
    GilRelease& operator=(const GilRelease&) = delete;
    ~GilRelease() {
        try {
            PyEval_RestoreThread(state_);
        } catch (...) {
            for (;;) pause();
        }
    }

private:
    PyThreadState* state_;
};

}  // namespace tnb
