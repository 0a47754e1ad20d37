// Streams: one worker thread each, tasks in order, no order between streams (the default stream included).
//
//   Stream& s = stream_of(device, 0);
//   s.enqueue(task);                 // blocks the caller while the stream has as many operations as it takes
//   Point point = s.point();         // a point in the stream, passed when the worker gets there; an operation too
//   other.wait_for(point);           // what is enqueued on `other` from now on runs behind it
//   point.marker->wait_on_host();    // without the GIL
//
// What the device does for its own ends (enqueue_own, mark) is no operation of the caller's: it
// never blocks him, and it runs also while the stream is captured, when operations do not.
//
// Workers never take the GIL, never see signals, and are leaked: the exit of the process waits only for a task that is
// in the middle of touching memory (an Execution), never for one that waits for a latch, a marker or a modelled delay.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>

namespace fake {

class Marker {
public:
    using Clock = std::chrono::steady_clock;

    bool passed() const noexcept { return passed_.load(std::memory_order_acquire); }
    void pass();
    // Keeps the GIL if the caller has it.
    void wait();
    void wait_on_host();
    Clock::time_point time() const { return time_; }

private:
    std::atomic<bool> passed_{false};
    std::mutex mutex_;
    std::condition_variable changed_;
    Clock::time_point time_{};
};

struct CapturedPoint;

// Where an event stands: passed by a worker, or part of a capture (capture.h). An event never recorded has neither.
struct Point {
    std::shared_ptr<Marker> marker;
    std::shared_ptr<const CapturedPoint> captured;
};

class Stream {
public:
    Stream(int device, int64_t id);

    int device() const { return device_; }
    int64_t id() const { return id_; }

    void enqueue(std::function<void()> task);
    Point point();
    void enqueue_own(std::function<void()> task);
    std::shared_ptr<Marker> mark();
    void wait_for(const Point& point);
    bool idle();
    void limit_changed();

private:
    struct Task {
        std::function<void()> run;
        bool callers;
    };

    void work();
    bool full() const;

    const int device_;
    const int64_t id_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::condition_variable freed_;
    std::deque<Task> tasks_;
    // The caller's that have not begun.
    int64_t operations_ = 0;
    bool busy_ = false;
};

// Id 0 is the default stream, 1 to pool_size are the pool's.
constexpr int64_t pool_size = 4;

Stream& stream_of(int device, int64_t id);
Stream& next_pool_stream(int device);
Stream& current_stream(int device);
int64_t current_stream_id(int device) noexcept;
int64_t exchange_stream(int device, int64_t id);
// How many operations that have not begun a stream takes before it blocks the submitter; 0 for no limit.
void set_queue_limit(int64_t limit);

// Waits on the host for all that the device's streams hold now, without the GIL.
void wait_for_device(int device);
// The same for all devices, as a call that blocks: the GIL stays with a caller who has it.
void block_on_all_devices();

// A worker touches memory only within an Execution.
class Execution {
public:
    Execution();
    ~Execution();
    Execution(const Execution&) = delete;
    Execution& operator=(const Execution&) = delete;
};

}  // namespace fake
