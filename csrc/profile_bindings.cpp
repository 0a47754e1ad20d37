// What a profile has recorded, for Python: plain tuples, which are the fields of the classes in
// torch_np_bridge/_recording.py.

#include "profile_bindings.h"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "gil.h"
#include "profile.h"

namespace py = pybind11;

namespace tnb {
namespace {

// Moments of the host are seconds since the profile began.
class Moments {
public:
    explicit Moments(Clock::time_point begin) : begin_(begin) {}

    double operator()(Clock::time_point at) const { return std::chrono::duration<double>(at - begin_).count(); }
    std::optional<double> operator()(std::optional<Clock::time_point> at) const {
        return at.has_value() ? std::optional<double>((*this)(*at)) : std::nullopt;
    }

private:
    Clock::time_point begin_;
};

py::tuple row_of(ProfiledCopies& copies, const Moments& moments) {
    const ProfiledCopies::Times times = copies.times();
    std::optional<double> computed = times.computed, started, ended;
    if (times.device.has_value()) {
        computed = times.device->computed;
        started = times.device->started;
        ended = times.device->ended;
    }
    return py::make_tuple(copies.device().str(), computed, started, ended, moments(times.submitted),
                          moments(times.started), moments(times.ended));
}

py::tuple row_of(ProfiledCall& call, const Moments& moments) {
    const ProfiledCall::Report report = call.report();
    py::dict routes;
    for (std::size_t route = 0; route < ProfiledCall::routes.size(); ++route) {
        if (report.leaves[route] > 0) routes[ProfiledCall::routes[route]] = report.leaves[route];
    }
    py::list waits, copies;
    for (const HostSpan& wait : report.waits) {
        waits.append(py::make_tuple(wait.thread, moments(wait.begin), moments(wait.end)));
    }
    for (const auto& it : report.copies) copies.append(row_of(*it, moments));
    return py::make_tuple(report.thread, moments(report.begin), moments(report.returned), report.bytes, routes, waits,
                          copies);
}

py::tuple read(Profile& profile) {
    std::vector<std::shared_ptr<ProfiledCall>> calls;
    {
        const GilRelease release;
        calls = profile.calls();
    }
    const Moments moments(profile.begin());
    py::list anchors, rows;
    for (const Profile::Anchor& anchor : profile.anchors()) {
        anchors.append(py::make_tuple(anchor.device.str(), moments(anchor.recorded), moments(anchor.seen)));
    }
    for (const auto& call : calls) rows.append(row_of(*call, moments));
    return py::make_tuple(anchors, rows);
}

}  // namespace

void bind_profile(py::module_& module) {
    py::class_<Profile, std::shared_ptr<Profile>>(module, "Profile").def("read", &read);
}

}  // namespace tnb
