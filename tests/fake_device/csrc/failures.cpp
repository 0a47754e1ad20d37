#include "failures.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <optional>

#include <c10/util/Exception.h>

namespace fake {
namespace {

struct Injection {
    int64_t calls_to_pass;
    bool sticky;
};

struct State {
    std::mutex mutex;
    std::vector<std::optional<Injection>> injections = std::vector<std::optional<Injection>>(call_names().size());
    std::vector<int64_t> delivered = std::vector<int64_t>(call_names().size());
    std::string ended_by;
    std::atomic<bool> quiet{true};
};

State& state() {
    static auto* leaked = new State();
    return *leaked;
}

thread_local std::string thread_error;

size_t index_of(const std::string& call) {
    const auto& names = call_names();
    const auto found = std::find(names.begin(), names.end(), call);
    TORCH_CHECK_VALUE(found != names.end(), "expected the name of a call of the fake device, got '", call,
                      "'; call_names() lists them");
    return static_cast<size_t>(found - names.begin());
}

void update_quiet(State& s) {
    const bool none = std::none_of(s.injections.begin(), s.injections.end(), [](const auto& i) { return !!i; });
    s.quiet.store(none && s.ended_by.empty());
}

bool take(State& s, size_t index) {
    auto& injection = s.injections[index];
    if (!injection || injection->calls_to_pass-- > 0) {
        return false;
    }
    s.delivered[index] += 1;
    if (injection->sticky) {
        s.ended_by = call_names()[index];
    }
    injection.reset();
    update_quiet(s);
    return true;
}

std::string verdict(Call call) {
    State& s = state();
    if (s.quiet.load()) {
        return {};
    }
    const auto index = static_cast<size_t>(call);
    const std::lock_guard lock(s.mutex);
    if (!s.ended_by.empty()) {
        s.delivered[index] += 1;
        return "fake device: " + call_names()[index] + " failed: the context was ended by " + s.ended_by;
    }
    if (take(s, index)) {
        return "fake device: " + call_names()[index] + " failed: injected failure";
    }
    return {};
}

}  // namespace

const std::vector<std::string>& call_names() {
    static const auto* names = new std::vector<std::string>{
        "device_alloc",
        "device_free",
        "host_alloc",
        "host_free",
        "lock_pages",
        "unlock_pages",
        "stream_get",
        "stream_query",
        "stream_synchronize",
        "device_synchronize",
        "event_create",
        "event_record",
        "event_block",
        "event_query",
        "event_synchronize",
        "event_elapsed",
        "event_destroy",
        "copy_d2h",
        "copy_h2d",
        "copy_d2d",
        "copy_d2h_async",
        "copy_h2d_async",
        "launch",
        "launch_async",
        "device_address",
        "begin_capture",
        "end_capture",
        "exchange_capture_mode",
        "stream_is_capturing",
    };
    return *names;
}

void inject_failure(const std::string& call, int64_t after, bool sticky) {
    TORCH_CHECK_VALUE(after >= 0, "expected a number of calls to let pass, got after=", after);
    const size_t index = index_of(call);
    State& s = state();
    const std::lock_guard lock(s.mutex);
    s.injections[index] = Injection{after, sticky};
    s.delivered[index] = 0;
    update_quiet(s);
}

void clear_failure(const std::string& call) {
    const size_t index = index_of(call);
    State& s = state();
    const std::lock_guard lock(s.mutex);
    s.injections[index].reset();
    if (s.ended_by == call) {
        s.ended_by.clear();
    }
    update_quiet(s);
}

void clear_failures() {
    State& s = state();
    const std::lock_guard lock(s.mutex);
    for (auto& injection : s.injections) {
        injection.reset();
    }
    s.ended_by.clear();
    update_quiet(s);
}

int64_t failures_delivered(const std::string& call) {
    const size_t index = index_of(call);
    State& s = state();
    const std::lock_guard lock(s.mutex);
    return s.delivered[index];
}

void raise_error(const std::string& message) {
    throw c10::AcceleratorError({__func__, __FILE__, static_cast<uint32_t>(__LINE__)}, 1, message);
}

void check(Call call) {
    const std::string message = verdict(call);
    if (!message.empty()) {
        raise_error(message);
    }
}

bool fails(Call call) noexcept {
    return !verdict(call).empty();
}

bool takes_failure(Call call) noexcept {
    State& s = state();
    if (s.quiet.load()) {
        return false;
    }
    const std::lock_guard lock(s.mutex);
    return take(s, static_cast<size_t>(call));
}

void end_context(const std::string& reason) noexcept {
    State& s = state();
    const std::lock_guard lock(s.mutex);
    if (s.ended_by.empty()) {
        s.ended_by = reason;
    }
    update_quiet(s);
}

void check_context() {
    State& s = state();
    if (s.quiet.load()) {
        return;
    }
    std::string reason;
    {
        const std::lock_guard lock(s.mutex);
        reason = s.ended_by;
    }
    if (!reason.empty()) {
        raise_error("fake device: the context was ended by " + reason);
    }
}

void set_last_error(const std::string& message) {
    thread_error = message;
}

const char* last_error() {
    return thread_error.c_str();
}

std::string take_last_error() {
    return std::exchange(thread_error, std::string());
}

}  // namespace fake
