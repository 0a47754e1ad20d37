#include "capture.h"

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include <c10/util/Exception.h>

#include "counters.h"
#include "device.h"

namespace fake {
namespace {

using Key = std::pair<int, int64_t>;
// How many operations of each stream come before a point.
using Clock = std::map<Key, int64_t>;

}  // namespace

class Capture {
public:
    Capture(Key began_on, CaptureMode with_mode) : origin(began_on), mode(with_mode) { clocks[origin]; }

    const Key origin;
    const CaptureMode mode;
    const std::thread::id thread = std::this_thread::get_id();
    std::map<Key, Clock> clocks;
    std::vector<std::function<void()>> operations;
    std::string invalid_because;
    bool ended = false;
};

struct CapturedPoint {
    std::shared_ptr<Capture> capture;
    Clock before;
};

namespace {

struct State {
    std::mutex mutex;
    std::map<Key, std::shared_ptr<Capture>> by_stream;
    // Without any there is nothing to ask.
    std::atomic<bool> any{false};
};

State& state() {
    static auto* leaked = new State();
    return *leaked;
}

thread_local CaptureMode thread_mode = CaptureMode::global;

Key key_of(const Stream& stream) {
    return {stream.device(), stream.id()};
}

std::shared_ptr<Capture> find(const State& s, Key key) {
    const auto found = s.by_stream.find(key);
    return found == s.by_stream.end() ? nullptr : found->second;
}

[[noreturn]] void refuse(const std::string& message) {
    raise_error("fake device: " + message);
}

void invalidate(Capture& capture, const std::string& reason) {
    if (capture.invalid_because.empty()) {
        capture.invalid_because = reason;
    }
}

[[noreturn]] void refuse_and_invalidate(Capture& capture, const std::string& reason) {
    invalidate(capture, reason);
    refuse(reason + "; the capture is invalid now");
}

void check_valid(const Capture& capture) {
    if (!capture.invalid_because.empty()) {
        refuse("the capture of this stream was invalidated: " + capture.invalid_because);
    }
}

bool joined(const Capture& capture) {
    const Clock& at_origin = capture.clocks.at(capture.origin);
    return std::all_of(capture.clocks.begin(), capture.clocks.end(), [&](const auto& member) {
        const auto own = member.second.find(member.first);
        if (own == member.second.end()) {
            return true;
        }
        const auto known = at_origin.find(member.first);
        return known != at_origin.end() && known->second >= own->second;
    });
}

const std::string& name_of(Call call) {
    return call_names()[static_cast<size_t>(call)];
}

}  // namespace

void Graph::launch(const std::shared_ptr<const Graph>& graph, Stream& stream) {
    check(Call::launch);
    count(stream.device(), Count::launches);
    stream.enqueue([graph] {
        for (const auto& operation : graph->operations_) {
            operation();
        }
    });
}

void begin_capture(Stream& stream, CaptureMode mode) {
    check_not_forked();
    check(Call::begin_capture);
    const Key key = key_of(stream);
    TORCH_CHECK(stream.id() != 0, "expected a stream of the pool to capture, got the default stream");
    State& s = state();
    const std::lock_guard lock(s.mutex);
    TORCH_CHECK(find(s, key) == nullptr, "expected a stream that is not captured yet");
    s.by_stream[key] = std::make_shared<Capture>(key, mode);
    s.any.store(true);
}

std::shared_ptr<Graph> end_capture(Stream& stream) {
    check_not_forked();
    check(Call::end_capture);
    State& s = state();
    const std::lock_guard lock(s.mutex);
    const auto capture = find(s, key_of(stream));
    TORCH_CHECK(capture != nullptr && capture->origin == key_of(stream),
                "expected the stream on which a capture began, got another");
    TORCH_CHECK(capture->mode == CaptureMode::relaxed || capture->thread == std::this_thread::get_id(),
                "expected the thread on which the capture began to end it, got another");
    for (const auto& [key, clock] : capture->clocks) {
        s.by_stream.erase(key);
    }
    s.any.store(!s.by_stream.empty());
    capture->ended = true;
    check_valid(*capture);
    if (!joined(*capture)) {
        refuse("the capture ended while a stream that it had pulled in had not joined: wait for its last event first");
    }
    return std::make_shared<Graph>(std::move(capture->operations));
}

CaptureMode exchange_capture_mode(CaptureMode mode) {
    check_not_forked();
    check(Call::exchange_capture_mode);
    return std::exchange(thread_mode, mode);
}

CaptureStatus capture_status(int device, int64_t id) {
    State& s = state();
    if (!s.any.load()) {
        return CaptureStatus::none;
    }
    const std::lock_guard lock(s.mutex);
    const auto capture = find(s, {device, id});
    if (capture == nullptr) {
        return CaptureStatus::none;
    }
    return capture->invalid_because.empty() ? CaptureStatus::active : CaptureStatus::invalidated;
}

CaptureStatus ask_capture_status(int device, int64_t id) {
    check_not_forked();
    check(Call::stream_is_capturing);
    return capture_status(device, id);
}

bool captured_instead(const Stream& stream, std::function<void()>& operation) {
    State& s = state();
    if (!s.any.load()) {
        return false;
    }
    const std::lock_guard lock(s.mutex);
    const Key key = key_of(stream);
    const auto capture = find(s, key);
    if (capture == nullptr) {
        return false;
    }
    check_valid(*capture);
    capture->clocks[key][key] += 1;
    capture->operations.push_back(std::move(operation));
    return true;
}

std::shared_ptr<const CapturedPoint> captured_point(const Stream& stream) {
    State& s = state();
    if (!s.any.load()) {
        return nullptr;
    }
    const std::lock_guard lock(s.mutex);
    const auto capture = find(s, key_of(stream));
    if (capture == nullptr) {
        return nullptr;
    }
    check_valid(*capture);
    return std::make_shared<CapturedPoint>(CapturedPoint{capture, capture->clocks[key_of(stream)]});
}

bool captured_wait(const Stream& stream, const Point& point) {
    State& s = state();
    if (!point.captured && !s.any.load()) {
        return false;
    }
    const std::lock_guard lock(s.mutex);
    const Key key = key_of(stream);
    const auto own = find(s, key);
    if (!point.captured) {
        if (own != nullptr) {
            refuse_and_invalidate(*own, "a captured stream was to wait for work that is not captured");
        }
        return false;
    }
    const auto& capture = point.captured->capture;
    if (capture->ended) {
        refuse("the event was last recorded in a capture that has ended; record it again");
    }
    if (own != nullptr && own != capture) {
        invalidate(*own, "two captures were to be merged");
        refuse_and_invalidate(*capture, "two captures were to be merged");
    }
    if (stream.id() == 0) {
        refuse_and_invalidate(*capture, "the default stream was to wait for a captured event");
    }
    check_valid(*capture);
    s.by_stream[key] = capture;
    Clock& clock = capture->clocks[key];
    for (const auto& [other, operations] : point.captured->before) {
        clock[other] = std::max(clock[other], operations);
    }
    return true;
}

void check_safe(Call call) {
    State& s = state();
    if (!s.any.load() || thread_mode == CaptureMode::relaxed) {
        return;
    }
    const std::string reason = name_of(call) + " may be unsafe while a stream is captured";
    bool refused = false;
    const std::lock_guard lock(s.mutex);
    for (const auto& [key, capture] : s.by_stream) {
        const bool own = capture->thread == std::this_thread::get_id();
        if (own ? capture->mode != CaptureMode::relaxed
                : capture->mode == CaptureMode::global && thread_mode == CaptureMode::global) {
            invalidate(*capture, reason);
            refused = true;
        }
    }
    if (refused) {
        refuse(reason + "; the capture is invalid now; exchange the thread's capture mode for the relaxed one first");
    }
}

void check_not_captured(Call call, const Stream& stream) {
    State& s = state();
    if (!s.any.load()) {
        return;
    }
    const std::lock_guard lock(s.mutex);
    if (const auto capture = find(s, key_of(stream))) {
        refuse_and_invalidate(*capture, name_of(call) + " cannot wait for or ask a stream that is captured");
    }
}

void check_not_captured(Call call, int device) {
    State& s = state();
    if (!s.any.load()) {
        return;
    }
    const std::lock_guard lock(s.mutex);
    for (const auto& [key, capture] : s.by_stream) {
        if (key.first == device) {
            refuse_and_invalidate(*capture, name_of(call) + " cannot wait for a device with a captured stream");
        }
    }
}

void check_not_captured(Call call, const Point& point) {
    if (!point.captured) {
        return;
    }
    const std::lock_guard lock(state().mutex);
    if (!point.captured->capture->ended) {
        refuse_and_invalidate(*point.captured->capture, name_of(call) + " cannot wait for or ask a captured event");
    }
    refuse(name_of(call) + " cannot wait for or ask an event that was last recorded in a capture; record it again");
}

}  // namespace fake
