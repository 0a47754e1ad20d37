// Names and types for Python; no logic. Whatever may wait or take a driver's lock runs without the GIL.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <c10/util/Exception.h>

#include "c_api.h"
#include "capture.h"
#include "copy_engine.h"
#include "counters.h"
#include "device.h"
#include "failures.h"
#include "features.h"
#include "host_allocator.h"
#include "host_memory.h"
#include "latch.h"
#include "memory.h"
#include "stream.h"

namespace py = pybind11;
using WithoutGil = py::call_guard<py::gil_scoped_release>;

namespace {

void lock_pages(uintptr_t address, size_t bytes) {
    if (fake_lock_pages(reinterpret_cast<void*>(address), bytes) != 0) {
        throw std::runtime_error("lock_pages failed; last_error() says why");
    }
}

void unlock_pages(uintptr_t address, size_t bytes) {
    if (fake_unlock_pages(reinterpret_cast<void*>(address), bytes) != 0) {
        throw std::runtime_error("unlock_pages failed; last_error() says why");
    }
}

}  // namespace

PYBIND11_MODULE(_fake, m) {
    py::register_exception_translator([](std::exception_ptr pointer) {
        try {
            if (pointer) {
                std::rethrow_exception(pointer);
            }
        } catch (const c10::ValueError& error) {
            PyErr_SetString(PyExc_ValueError, error.what_without_backtrace());
        } catch (const c10::Error& error) {
            PyErr_SetString(PyExc_RuntimeError, error.what_without_backtrace());
        }
    });

    m.def("device_count", &fake::device_count);
    m.def("configure_devices", &fake::configure_devices);
    m.def("current_device", &fake::current_device);
    m.def("set_device", &fake::set_device);
    m.def("exchange_device", &fake::exchange_device);
    m.def("restore_device", &fake::restore_device);
    m.def("has_context", &fake::has_context);
    m.def("context_count", &fake::context_count);
    m.def("forked", &fake::forked);

    py::class_<fake::Latch, std::shared_ptr<fake::Latch>>(m, "Latch")
        .def("release", &fake::Latch::release, WithoutGil());
    m.def(
        "hold_stream", [](int device, int64_t id) { return fake::hold_stream(fake::stream_of(device, id)); },
        WithoutGil());

    py::enum_<fake::CaptureMode>(m, "CaptureMode")
        .value("GLOBAL", fake::CaptureMode::global)
        .value("THREAD_LOCAL", fake::CaptureMode::thread_local_only)
        .value("RELAXED", fake::CaptureMode::relaxed);
    py::enum_<fake::CaptureStatus>(m, "CaptureStatus")
        .value("NONE", fake::CaptureStatus::none)
        .value("ACTIVE", fake::CaptureStatus::active)
        .value("INVALIDATED", fake::CaptureStatus::invalidated);
    py::class_<fake::Graph, std::shared_ptr<fake::Graph>>(m, "Graph");
    m.def(
        "begin_capture",
        [](int device, int64_t id, fake::CaptureMode mode) { fake::begin_capture(fake::stream_of(device, id), mode); },
        WithoutGil());
    m.def(
        "end_capture", [](int device, int64_t id) { return fake::end_capture(fake::stream_of(device, id)); },
        WithoutGil());
    m.def(
        "launch_graph",
        [](const std::shared_ptr<fake::Graph>& graph, int device, int64_t id) {
            fake::Graph::launch(graph, fake::stream_of(device, id));
        },
        WithoutGil());
    m.def("exchange_capture_mode", &fake::exchange_capture_mode);
    m.def("capture_status", &fake::ask_capture_status);

    m.def("close_copy_gate", &fake::close_copy_gate, WithoutGil());
    m.def("open_copy_gate", &fake::open_copy_gate, WithoutGil());

    m.def("set_queue_limit", &fake::set_queue_limit, WithoutGil());
    py::enum_<fake::Feature>(m, "Feature")
        .value("HOST_ALLOCATOR", fake::Feature::host_allocator)
        .value("POOL_STREAMS", fake::Feature::pool_streams)
        .value("EVENTS", fake::Feature::events)
        .value("STREAM_HANDLES", fake::Feature::stream_handles);
    m.def("set_feature", &fake::set_feature);

    m.def("set_copy_cost", &fake::set_copy_cost);
    m.def("empty_cache", &fake::empty_cache, WithoutGil());
    m.def("empty_host_cache", [] { fake::host_allocator()->empty_cache(); }, WithoutGil());
    m.def("round_host_memory_to_powers_of_two", &fake::round_host_memory_to_powers_of_two);
    m.def("share_host_memory_with_children", &fake::share_host_memory_with_children);
    m.def("host_memory_waits_for_streams", &fake::host_memory_waits_for_streams);
    m.def("lock_pages", &lock_pages, WithoutGil());
    m.def("unlock_pages", &unlock_pages, WithoutGil());

    m.def("counts", &fake::counts);
    m.def("reset_counts", &fake::reset_counts);

    m.def("call_names", &fake::call_names);
    m.def("inject_failure", &fake::inject_failure);
    m.def("clear_failure", &fake::clear_failure);
    m.def("clear_failures", &fake::clear_failures);
    m.def("failures_delivered", &fake::failures_delivered);
    m.def("take_last_error", &fake::take_last_error);
}
