// Names, GIL release, conversion of arguments; those of the trees are in tree_bindings.cpp, those of profiles in
// profile_bindings.cpp, and pybind11 is in these three files only. What happens is elsewhere.

#include <torch/csrc/utils/pybind.h>

#include <torch/csrc/Dtype.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/autograd/python_variable.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <type_traits>

#include "device.h"
#include "dtypes.h"
#include "engine.h"
#include "gil.h"
#include "kernels.h"
#include "numpy_array.h"
#include "pending.h"
#include "process.h"
#include "profile_bindings.h"
#include "python_wait.h"
#include "shortfalls.h"
#include "storage.h"
#include "timed_copies.h"
#include "to_numpy.h"
#include "tree_bindings.h"

namespace py = pybind11;

namespace tnb {
namespace {

template <class... Words>
[[noreturn]] void refuse(const char* error, std::size_t index, const Words&... words) {
    const py::object refused = py::module_::import("torch_np_bridge.errors").attr(error);
    PyErr_SetObject(refused.ptr(), refused(index, words...).ptr());
    throw py::error_already_set();
}

// A parameter of a lazy module has neither shape nor values yet, and looks like an empty tensor from here. Only tensors
// of a class of their own are asked, and only those without elements.
bool is_uninitialized(py::handle item, const at::Tensor& tensor) {
    if (THPVariable_CheckExact(item.ptr()) || tensor.numel() != 0) return false;
    return py::module_::import("torch.nn.parameter").attr("is_lazy")(item).cast<bool>();
}

c10::ScalarType take_dtype(py::handle dtype) {
    if (!THPDtype_Check(dtype.ptr())) throw py::type_error("expected a torch.dtype");
    return reinterpret_cast<THPDtype*>(dtype.ptr())->scalar_type;
}

Casts take_casts(const std::optional<py::dict>& pairs) {
    Casts casts;
    if (!pairs.has_value()) return casts;
    for (const auto& [from, to] : *pairs) casts.set(take_dtype(from), take_dtype(to));
    return casts;
}

std::vector<at::Tensor> take_tensors(const py::list& list, const Casts& casts) {
    std::vector<at::Tensor> tensors;
    tensors.reserve(list.size());
    for (const py::handle item : list) {
        // Not THPVariable_Check: that believes what an object says of its class, and a proxy or a mock may lie.
        if (!THPVariable_CheckExact(item.ptr()) &&
            PyType_IsSubtype(Py_TYPE(item.ptr()), reinterpret_cast<PyTypeObject*>(THPVariableClass)) == 0) {
            throw py::type_error("expected a list of tensors");
        }
        const at::Tensor& tensor = THPVariable_Unpack(item.ptr());
        const bool supported = is_plain(tensor) && numpy_dtype(casts.of(tensor.scalar_type())) != nullptr;
        const bool has_values = supported && storage_reaches(tensor) && !is_uninitialized(item, tensor);
        if (!has_values) refuse("LeafRefusedError", tensors.size());
        tensors.push_back(tensor);
    }
    return tensors;
}

std::vector<Destination> take_destinations(const py::list& arrays, const std::vector<at::Tensor>& tensors,
                                           const Casts& casts) {
    if (arrays.size() != tensors.size()) throw py::value_error("expected as many arrays as tensors");
    std::vector<Destination> destinations;
    destinations.reserve(tensors.size());
    for (const at::Tensor& tensor : tensors) {
        auto taken = take_destination(arrays[destinations.size()].ptr(), tensor, casts.of(tensor.scalar_type()));
        if (!taken.has_value()) refuse("OutputRefusedError", destinations.size());
        destinations.push_back(std::move(*taken));
    }
    if (const auto overlap = find_overlap(destinations)) refuse("OutputRefusedError", *overlap);
    return destinations;
}

// A new reference, or the Python error that is set.
py::object taken(PyObject* object) {
    if (object == nullptr) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(object);
}

py::object submit(const py::object& self, const py::list& list, const std::optional<py::list>& out,
                  const std::optional<py::dict>& cast, bool fresh, bool snapshot, bool blocking) {
    auto& engine = self.cast<Engine&>();
    const Casts casts = take_casts(cast);
    // Dropped with the GIL: these may be the last references of C++ to what Python knows.
    const std::vector<at::Tensor> tensors = take_tensors(list, casts);
    const std::vector<Destination> destinations =
        out.has_value() ? take_destinations(*out, tensors, casts) : std::vector<Destination>();
    try {
        return taken(start_transfer(self.ptr(), engine, tensors, destinations, {fresh, snapshot, blocking, casts},
                                    out.has_value() ? out->ptr() : nullptr));
    } catch (const CapturedError& error) {
        const auto there = [&error](const at::Tensor& tensor) { return tensor.device() == error.device; };
        const auto first = std::find_if(tensors.begin(), tensors.end(), there);
        refuse("LeafRefusedError", static_cast<std::size_t>(first - tensors.begin()), error.what());
    }
}

py::object empty(Engine& engine, const std::optional<c10::Device>& device, std::size_t bytes) {
    HostValues values;
    {
        const GilRelease release;
        values = engine.empty(device, bytes);
    }
    return taken(make_array(std::move(values)));
}

void close(Engine& engine) {
    const auto all = [&engine](auto slice, auto) { return engine.wait_for_all(slice); };
    if (!wait_in_slices(Clock::time_point::max(), all).has_value()) throw py::error_already_set();
}

std::string c_docstring(const py::object& function) {
    return py::module_::import("torch_np_bridge.engine").attr("c_docstring")(function).cast<std::string>();
}

FrontOf front_of(const py::object& self, const py::object& function, const py::object& transfer) {
    return {self.cast<Engine&>(), self.ptr(), transfer.ptr(), function.ptr(), c_docstring(function)};
}

py::object front(const py::object& self, const py::object& function, const py::object& transfer) {
    return taken(make_to_numpy(front_of(self, function, transfer)));
}

py::object front_async(const py::object& self, const py::object& function, const py::object& transfer) {
    return taken(make_to_numpy_async(front_of(self, function, transfer)));
}

py::dict stats(Engine& engine) {
    EngineStats stats;
    {
        const GilRelease release;
        stats = engine.stats();
    }
    using namespace py::literals;
    return py::dict("limit_bytes"_a = stats.limit, "limit_held_bytes"_a = stats.budget,
                    "held_bytes"_a = stats.pool.held_bytes, "leased_bytes"_a = stats.pool.leased_bytes,
                    "retained_bytes"_a = stats.pool.retained_bytes, "inherited_bytes"_a = stats.pool.inherited_bytes,
                    "slabs"_a = stats.pool.slabs, "allocations"_a = stats.pool.allocations,
                    "transfers"_a = stats.transfers, "copied_bytes"_a = stats.bytes_copied,
                    "unpooled_leaves"_a = stats.leaves_unpooled);
}

py::tuple timed_copies(const std::vector<at::Tensor>& tensors, const std::string& way, unsigned blocks,
                       unsigned threads) {
    const std::map<std::string, CopyWay> ways = {
        {"each", CopyWay::each}, {"mapped", CopyWay::mapped}, {"staged", CopyWay::staged}};
    TimedCopies timed;
    {
        const GilRelease release;
        timed = time_copies(tensors, ways.at(way), blocks, threads);
    }
    return py::make_tuple(timed.seconds, timed.arrived);
}

void set_dtypes(const std::vector<std::pair<py::object, py::object>>& rows) {
    for (const auto& [torch_dtype, dtype] : rows) {
        set_numpy_dtype(take_dtype(torch_dtype), dtype.ptr());
    }
}

// `functions` are addresses by the names of DeviceInterface; what is not among them has the generic way.
void register_functions(const std::string& type_name, std::map<std::string, std::uintptr_t> functions) {
    DeviceInterface interface;
    const auto take = [&functions](const char* name, auto& entry) {
        if (auto given = functions.extract(name)) {
            entry = reinterpret_cast<std::remove_reference_t<decltype(entry)>>(given.mapped());
        }
    };
    take("stream_is_capturing", interface.stream_is_capturing);
    take("exchange_capture_mode", interface.exchange_capture_mode);
    take("lock_pages", interface.lock_pages);
    take("unlock_pages", interface.unlock_pages);
    take("allocate_pages", interface.allocate_pages);
    take("free_pages", interface.free_pages);
    take("is_page_locked", interface.is_page_locked);
    take("copy_to_host", interface.copy_to_host);
    take("describe_error", interface.describe_error);
    take("clear_error", interface.clear_error);
    take("packs", interface.packs);
    take("pack", interface.pack);
    take("stages", interface.stages);
    take("pack_in_shape", interface.pack_in_shape);
    take("why_no_kernels", interface.why_no_kernels);
    take("device_address", interface.device_address);
    if (!functions.empty()) {
        throw py::value_error("expected names of functions in csrc/device.h, got " + functions.begin()->first);
    }
    register_device(c10::Device(type_name).type(), interface);
}

}  // namespace
}  // namespace tnb

PYBIND11_MODULE(_C, module) {
    py::register_local_exception_translator([](std::exception_ptr thrown) {
        try {
            std::rethrow_exception(thrown);
        } catch (const c10::Error&) {
            torch::translate_exception_to_python(std::current_exception());
        }
    });
    PyTypeObject* pending = tnb::init_numpy() ? tnb::init_pending() : nullptr;
    if (pending == nullptr) throw py::error_already_set();
    module.attr("Pending") = py::handle(reinterpret_cast<PyObject*>(pending));
    tnb::watch_forks();
    py::module_::import("atexit").attr("register")(
        py::cpp_function(&tnb::Worker::stop_all, py::call_guard<tnb::GilRelease>()));

    py::class_<tnb::SharedLimit, std::shared_ptr<tnb::SharedLimit>>(module, "SharedLimit")
        .def(py::init<std::size_t>(), py::arg("bytes"));
    tnb::bind_profile(module);
    py::class_<tnb::Engine>(module, "Engine")
        .def(py::init<std::shared_ptr<tnb::SharedLimit>, bool>(), py::arg("limit"), py::arg("poison"))
        .def_property_readonly("name", [](const tnb::Engine&) { return "native"; })
        .def("submit", &tnb::submit, py::arg("tensors"), py::arg("out"), py::arg("cast"), py::arg("fresh"),
             py::arg("snapshot"), py::arg("blocking"))
        .def("empty", &tnb::empty, py::arg("device"), py::arg("bytes"))
        .def("trim", &tnb::Engine::trim, py::call_guard<tnb::GilRelease>())
        .def("stats", &tnb::stats)
        .def("close", &tnb::close)
        .def(
            "start_profile", [](tnb::Engine& engine) { return engine.profiling().start(); },
            py::call_guard<tnb::GilRelease>())
        .def(
            "stop_profile", [](tnb::Engine& engine) { engine.profiling().stop(); }, py::call_guard<tnb::GilRelease>())
        .def("front", &tnb::front, py::arg("function"), py::arg("transfer"))
        .def("front_async", &tnb::front_async, py::arg("function"), py::arg("transfer"));
    tnb::bind_trees(module);
    module.def("set_dtypes", &tnb::set_dtypes, py::arg("rows"));
    module.def("register_device", &tnb::register_functions, py::arg("type"), py::arg("functions"));
    module.def("time_copies", &tnb::timed_copies, py::arg("tensors"), py::arg("way"), py::arg("blocks"),
               py::arg("threads"));
    module.def("kernels", &tnb::kernels);
    module.def("lack_of_page_locking", &tnb::lack_of_page_locking);
    module.def("lack_of_asynchrony", &tnb::lack_of_asynchrony);
    module.def("kernel_selftest", &tnb::kernel_selftest, py::arg("device"), py::call_guard<tnb::GilRelease>());
    module.attr("BUILT_FOR_TORCH") = TNB_BUILT_FOR_TORCH;
}
