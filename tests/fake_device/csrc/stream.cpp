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

#include "device.h"
#include "failures.h"

namespace fake {
namespace {

std::atomic<bool> exiting{false};
std::atomic<int> executions{0};
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

}  // namespace

void Marker::pass() {
    const std::lock_guard lock(mutex_);
    time_ = Clock::now();
    passed_.store(true, std::memory_order_release);
    changed_.notify_all();
}

void Marker::wait_on_worker() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return passed(); });
}

void Marker::wait_on_host() {
    if (passed()) {
        return;
    }
    check_not_forked();
    const WithoutGil without_gil;
    wait_on_worker();
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
    const std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
    changed_.notify_one();
}

std::shared_ptr<Marker> Stream::mark() {
    auto marker = std::make_shared<Marker>();
    enqueue([marker] { marker->pass(); });
    return marker;
}

void Stream::wait_for(std::shared_ptr<Marker> marker) {
    enqueue([marker = std::move(marker)] { marker->wait_on_worker(); });
}

bool Stream::idle() {
    check_not_forked();
    const std::lock_guard lock(mutex_);
    return tasks_.empty() && !busy_;
}

void Stream::work() {
    for (;;) {
        std::function<void()> task;
        {
            std::unique_lock lock(mutex_);
            busy_ = false;
            changed_.wait(lock, [this] { return !tasks_.empty(); });
            busy_ = true;
            task = std::move(tasks_.front());
            tasks_.pop_front();
        }
        if (exiting.load()) {
            park();
        }
        try {
            task();
        } catch (const std::exception& error) {
            end_context(std::string("an error on a stream: ") + error.what());
        }
        const Execution destroys_captured_tensors;
        task = nullptr;
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

void wait_for_device(int device) {
    std::vector<Stream*> all;
    {
        Streams& s = streams();
        const std::lock_guard lock(s.mutex);
        for (Stream* stream : s.all[device]) {
            if (stream != nullptr) {
                all.push_back(stream);
            }
        }
    }
    std::vector<std::shared_ptr<Marker>> markers;
    for (Stream* stream : all) {
        markers.push_back(stream->mark());
    }
    for (const auto& marker : markers) {
        marker->wait_on_host();
    }
}

}  // namespace fake
