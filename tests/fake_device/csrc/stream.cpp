#include "stream.h"

#include <Python.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <thread>
#include <vector>

#include <c10/util/Exception.h>

#include "capture.h"
#include "counters.h"
#include "device.h"
#include "failures.h"

namespace fake {
namespace {

std::atomic<bool> exiting{false};
std::atomic<int> executions{0};
std::atomic<int64_t> queue_limit{0};
std::once_flag exit_handler;
thread_local std::array<int64_t, max_devices> thread_streams{};

[[noreturn]] void park() {
    for (;;) {
        pause();
    }
}

// Registered after torch's own statics, so it runs before they are destroyed.
void quiesce() {
    exiting.store(true);
    while (!forked() && executions.load() > 0) {
        std::this_thread::yield();
    }
}

class WithoutGil {
public:
    WithoutGil() : state_(Py_IsInitialized() && PyGILState_Check() ? PyEval_SaveThread() : nullptr) {}
    ~WithoutGil() {
        if (state_ != nullptr) {
            PyEval_RestoreThread(state_);
        }
    }
    WithoutGil(const WithoutGil&) = delete;
    WithoutGil& operator=(const WithoutGil&) = delete;

private:
    PyThreadState* state_;
};

struct Streams {
    std::mutex mutex;
    std::array<std::array<Stream*, pool_size + 1>, max_devices> all{};
    std::array<std::atomic<int64_t>, max_devices> taken{};
};

Streams& streams() {
    static auto* leaked = new Streams();
    return *leaked;
}

std::vector<Stream*> streams_of(int device) {
    Streams& s = streams();
    const std::lock_guard lock(s.mutex);
    std::vector<Stream*> made;
    for (Stream* stream : s.all[device]) {
        if (stream != nullptr) {
            made.push_back(stream);
        }
    }
    return made;
}

std::vector<std::shared_ptr<Marker>> mark_all(int device) {
    std::vector<std::shared_ptr<Marker>> markers;
    for (Stream* stream : streams_of(device)) {
        markers.push_back(stream->mark());
    }
    return markers;
}

}  // namespace

void Marker::pass() {
    const std::lock_guard lock(mutex_);
    time_ = Clock::now();
    passed_.store(true, std::memory_order_release);
    changed_.notify_all();
}

void Marker::wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return passed(); });
}

void Marker::wait_on_host() {
    if (passed()) {
        return;
    }
    check_not_forked();
    const WithoutGil without_gil;
    wait();
}

Execution::Execution() {
    executions.fetch_add(1);
    if (exiting.load()) {
        executions.fetch_sub(1);
        park();
    }
}

Execution::~Execution() {
    executions.fetch_sub(1);
}

Stream::Stream(int device, int64_t id) : device_(device), id_(id) {
    std::call_once(exit_handler, [] { std::atexit(quiesce); });
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    std::thread([this] { work(); }).detach();
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void Stream::enqueue(std::function<void()> task) {
    check_not_forked();
    if (captured_instead(*this, task)) {
        return;
    }
    std::unique_lock lock(mutex_);
    if (full()) {
        count(device_, Count::queue_waits);
        freed_.wait(lock, [this] { return !full(); });
    }
    operations_ += 1;
    tasks_.push_back({std::move(task), true});
    changed_.notify_one();
}

Point Stream::point() {
    if (auto captured = captured_point(*this)) {
        return {nullptr, std::move(captured)};
    }
    auto marker = std::make_shared<Marker>();
    enqueue([marker] { marker->pass(); });
    return {std::move(marker), nullptr};
}

void Stream::enqueue_own(std::function<void()> task) {
    check_not_forked();
    const std::lock_guard lock(mutex_);
    tasks_.push_back({std::move(task), false});
    changed_.notify_one();
}

std::shared_ptr<Marker> Stream::mark() {
    auto marker = std::make_shared<Marker>();
    enqueue_own([marker] { marker->pass(); });
    return marker;
}

void Stream::wait_for(const Point& point) {
    check_not_forked();
    if (!captured_wait(*this, point)) {
        enqueue([marker = point.marker] { marker->wait(); });
    }
}

bool Stream::idle() {
    check_not_forked();
    const std::lock_guard lock(mutex_);
    return tasks_.empty() && !busy_;
}

bool Stream::full() const {
    const int64_t limit = queue_limit.load();
    return limit > 0 && operations_ >= limit;
}

void Stream::limit_changed() {
    const std::lock_guard lock(mutex_);
    freed_.notify_all();
}

void Stream::work() {
    for (;;) {
        Task task;
        {
            std::unique_lock lock(mutex_);
            busy_ = false;
            changed_.wait(lock, [this] { return !tasks_.empty(); });
            busy_ = true;
            task = std::move(tasks_.front());
            tasks_.pop_front();
            if (task.callers) {
                operations_ -= 1;
                freed_.notify_all();
            }
        }
        if (exiting.load()) {
            park();
        }
        try {
            task.run();
        } catch (const std::exception& error) {
            end_context(std::string("an error on a stream: ") + error.what());
        }
        const Execution destroys_captured_tensors;
        task.run = nullptr;
    }
}

Stream& stream_of(int device, int64_t id) {
    check_device(device);
    TORCH_CHECK(id >= 0 && id <= pool_size, "expected the id of a fake stream (0 to ", pool_size, "), got ", id);
    use_device(device);
    Streams& s = streams();
    const std::lock_guard lock(s.mutex);
    Stream*& stream = s.all[device][id];
    if (stream == nullptr) {
        stream = new Stream(device, id);
    }
    return *stream;
}

Stream& next_pool_stream(int device) {
    check_device(device);
    return stream_of(device, 1 + streams().taken[device].fetch_add(1) % pool_size);
}

Stream& current_stream(int device) {
    return stream_of(device, current_stream_id(device));
}

int64_t current_stream_id(int device) noexcept {
    return thread_streams[device];
}

int64_t exchange_stream(int device, int64_t id) {
    check_device(device);
    TORCH_CHECK(id >= 0 && id <= pool_size, "expected the id of a fake stream (0 to ", pool_size, "), got ", id);
    return std::exchange(thread_streams[device], id);
}

void set_queue_limit(int64_t limit) {
    TORCH_CHECK_VALUE(limit >= 0, "expected a number of operations, 0 for no limit, got ", limit);
    queue_limit.store(limit);
    for (int device = 0; device < max_devices; ++device) {
        for (Stream* stream : streams_of(device)) {
            stream->limit_changed();
        }
    }
}

void wait_for_device(int device) {
    for (const auto& marker : mark_all(device)) {
        marker->wait_on_host();
    }
}

void block_on_all_devices() {
    for (int device = 0; device < device_count(); ++device) {
        for (const auto& marker : mark_all(device)) {
            marker->wait();
        }
    }
}

}  // namespace fake
