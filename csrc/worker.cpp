#include "worker.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "copy_lane.h"
#include "process.h"

namespace tnb {
namespace {

// Between two looks at lanes where something is still in flight. Nobody waits for these: they only hold memory.
constexpr std::chrono::milliseconds sweep_pause{5};
// A job may stand in a device call that takes its time; exit does not wait for it for longer than this.
constexpr std::chrono::milliseconds patience_at_exit{500};

}  // namespace

struct Worker::State {
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<Job> jobs;
    bool started = false;
    bool busy = false;
    bool sweeping = false;
    bool ending = false;
    bool stopped = false;
};

struct Worker::Registry {
    std::mutex mutex;
    std::vector<std::weak_ptr<State>> states;
};

// Leaked, since threads may outlive static objects.
Worker::Registry& Worker::registry() {
    static auto* instance = new Registry;
    return *instance;
}

Worker::Worker() : state_(std::make_shared<State>()) {}

void Worker::start_once() {
    if (state_->started) return;
    {
        const std::lock_guard<std::mutex> lock(registry().mutex);
        std::erase_if(registry().states, [this](const auto& it) { return it.expired() || it.lock() == state_; });
        registry().states.push_back(state_);
    }
    std::thread(work, state_).detach();
    state_->started = true;
}

Worker::~Worker() {
    if (process_is_forked_child()) return;
    const std::lock_guard<std::mutex> lock(state_->mutex);
    state_->ending = true;
    state_->changed.notify_all();
}

bool Worker::keep_going() noexcept {
    return !process_is_exiting();
}

void Worker::stop_all() noexcept {
    note_process_exit();
    if (process_is_forked_child()) return;
    const auto deadline = Clock::now() + patience_at_exit;
    std::vector<std::weak_ptr<State>> states;
    {
        const std::lock_guard<std::mutex> lock(registry().mutex);
        states.swap(registry().states);
    }
    for (const auto& weak : states) {
        const auto state = weak.lock();
        if (state == nullptr) continue;
        std::unique_lock<std::mutex> lock(state->mutex);
        state->changed.notify_all();
        state->changed.wait_until(lock, deadline, [&state] { return !state->started || state->stopped; });
    }
}

void Worker::run(Job job) {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    start_once();
    state_->jobs.push_back(std::move(job));
    state_->changed.notify_all();
}

void Worker::sweep_lanes() noexcept {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    try {
        start_once();
    } catch (const std::exception&) {
        return;  // no thread is to be had: the next submit to the device sweeps
    }
    state_->sweeping = true;
    state_->changed.notify_all();
}

bool Worker::wait_idle(Clock::time_point deadline) {
    std::unique_lock<std::mutex> lock(state_->mutex);
    return state_->changed.wait_until(lock, deadline, [this] { return state_->jobs.empty() && !state_->busy; });
}

void Worker::work(const std::shared_ptr<State>& state) {
    std::unique_lock<std::mutex> lock(state->mutex);
    while (keep_going()) {
        if (!state->jobs.empty()) {
            Job job = std::move(state->jobs.front());
            state->jobs.pop_front();
            state->busy = true;
            lock.unlock();
            job();
            job = nullptr;
            lock.lock();
            state->busy = false;
            state->changed.notify_all();
        } else if (state->sweeping) {
            // Before the lanes are looked at: who drops a transfer behind our back asks again, and is heard.
            state->sweeping = false;
            lock.unlock();
            bool in_flight = false;
            for (CopyLane* lane : CopyLane::all()) {
                lane->sweep();
                in_flight = in_flight || !lane->idle();
            }
            lock.lock();
            if (in_flight) {
                state->sweeping = true;
                state->changed.wait_for(lock, sweep_pause);
            }
        } else if (state->ending) {
            break;
        } else {
            state->changed.wait(lock);
        }
    }
    state->stopped = true;
    state->changed.notify_all();
}

}  // namespace tnb
