#pragma once

#include <Python.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "gil.h"
#include "waiting.h"
#include "worker.h"

namespace tnb {

// How long a wait may go on before it looks for a signal: Ctrl-C is answered within this time.
constexpr std::chrono::milliseconds signal_interval{50};

// Until `wait` says so, or the deadline comes: without the GIL, and in slices that look for signals in between; whether
// it said so, and nothing where a signal has set a Python error. In a callback, which the worker calls, the copies that
// are the worker's own are made first: nobody else makes them.
template <class Wait>
std::optional<bool> wait_in_slices(Clock::time_point deadline, Wait&& wait) {
    const auto begin = Clock::now();
    while (true) {
        const auto slice = std::min(deadline, Clock::now() + signal_interval);
        bool ended = false;
        {
            const GilRelease release;
            Worker::help();
            ended = wait(slice, begin);
        }
        if (ended) return true;
        if (PyErr_CheckSignals() != 0) return std::nullopt;
        if (slice == deadline) return false;
    }
}

}  // namespace tnb
