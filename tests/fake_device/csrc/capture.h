// Capture of operations into a graph, by CUDA's rules.
//
//   begin_capture(stream, CaptureMode::global);   // operations on the stream do not run from now on
//   auto graph = end_capture(stream);             // throws if the capture was invalidated or a stream has not joined
//   graph->launch(other);
//
// A stream that waits for an event of the capture becomes part of it, and has to be waited for before the end. What
// does not go with a capture fails and invalidates it: waiting for a stream or an event that is captured, waiting for
// work outside of it, and calls that may be unsafe (those that wait on the host, and those of host memory). Unsafe
// calls fail on the capturing thread unless the capture is relaxed, and on every other thread while a capture in
// global mode goes on, unless that thread has exchanged its own mode, which is global, for another.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "failures.h"
#include "stream.h"

namespace fake {

// By the numbers that CUDA gives them.
enum class CaptureMode { global, thread_local_only, relaxed };
enum class CaptureStatus { none, active, invalidated };

class Graph {
public:
    explicit Graph(std::vector<std::function<void()>> operations) : operations_(std::move(operations)) {}
    static void launch(const std::shared_ptr<const Graph>& graph, Stream& stream);

private:
    std::vector<std::function<void()>> operations_;
};

void begin_capture(Stream& stream, CaptureMode mode);
// On the stream that it began on, and by the same thread unless it is relaxed. Ends it also where it throws for an
// invalidated capture or a stream that has not joined.
std::shared_ptr<Graph> end_capture(Stream& stream);
// Of this thread; gives the mode that it had.
CaptureMode exchange_capture_mode(CaptureMode mode);
CaptureStatus capture_status(int device, int64_t id);
// The same as calls of the driver, which may fail.
CaptureStatus ask_capture_status(int device, int64_t id);

// Takes the operation if the stream is captured.
bool captured_instead(const Stream& stream, std::function<void()>& operation);
// Nothing where the stream is not captured.
std::shared_ptr<const CapturedPoint> captured_point(const Stream& stream);
// Takes the wait if the point or the stream is of a capture.
bool captured_wait(const Stream& stream, const Point& point);

// What each call that may be unsafe asks first.
void check_safe(Call call);
// What each call asks first that waits for a stream, for all of a device, or for a point.
void check_not_captured(Call call, const Stream& stream);
void check_not_captured(Call call, int device);
void check_not_captured(Call call, const Point& point);

}  // namespace fake
