#include "worker.h"

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <iterator>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "copy_lane.h"
#include "process.h"
#include "transfer.h"

namespace tnb {
namespace {

// Between two looks at lanes where something is still in flight. Nobody waits for these: they only hold memory.
constexpr std::chrono::milliseconds sweep_pause{5};
// A job may stand in a device call that takes its time; exit does not wait for it for longer than this.
constexpr std::chrono::milliseconds patience_at_exit{500};

struct Watching {
    std::shared_ptr<Transfer> transfer;
    Worker::Job notify;
};

}  // namespace

struct Worker::State {
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<Job> jobs;
    std::vector<Watching> watching;
    // Of them, how many were asked when so many flights had ended: they need not be asked again before the next end.
    std::size_t asked = 0;
    std::uint64_t endings = 0;
    bool started = false;
    bool anew = false;  // somebody watches who has not waited yet
    bool busy = false;
    bool sweeping = false;
    bool ending = false;
    bool stopped = false;
};

// That of this thread, if it is a worker. Only what it calls itself reads it.
thread_local Worker::State* Worker::own_state_ = nullptr;

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

void Worker::watch(std::shared_ptr<Transfer> transfer, Job notify) {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    start_once();
    state_->watching.push_back({std::move(transfer), std::move(notify)});
    state_->anew = true;
    state_->changed.notify_all();
}

bool Worker::wait_idle(Clock::time_point deadline) {
    help();
    std::unique_lock<std::mutex> lock(state_->mutex);
    if (own_state_ == state_.get()) return true;
    // At exit the worker had its time to stop: it may stand in a call of the device that never ends.
    return state_->changed.wait_until(lock, deadline, [this] {
        return !keep_going() || state_->stopped || (state_->jobs.empty() && state_->watching.empty() && !state_->busy);
    });
}

void Worker::help() {
    if (!is_this_thread()) return;
    std::unique_lock<std::mutex> lock(own_state_->mutex);
    while (keep_going() && run_next_job(*own_state_, lock)) {
    }
}

// Both are called under the lock and give it away while they call out; whether there was something to do.

bool Worker::run_next_job(State& state, std::unique_lock<std::mutex>& lock) {
    if (state.jobs.empty()) return false;
    Job job = std::move(state.jobs.front());
    state.jobs.pop_front();
    const bool busy = std::exchange(state.busy, true);
    lock.unlock();
    job();
    job = nullptr;
    lock.lock();
    state.busy = busy;
    state.changed.notify_all();
    return true;
}

bool Worker::tell_who_watches(State& state, std::unique_lock<std::mutex>& lock) {
    // Read first: what ends behind our back is seen the next time.
    const std::uint64_t endings = Flight::endings();
    if (state.watching.empty() || (endings == state.endings && state.asked == state.watching.size())) return false;
    state.endings = endings;
    std::vector<Watching> watching = std::exchange(state.watching, {});
    state.busy = true;
    lock.unlock();
    const auto over = std::stable_partition(watching.begin(), watching.end(),
                                            [](const Watching& it) { return !it.transfer->over(); });
    const bool any = over != watching.end();
    std::vector<Watching> told(std::make_move_iterator(over), std::make_move_iterator(watching.end()));
    watching.erase(over, watching.end());
    lock.lock();
    // In front of those that have come meanwhile: who asked first is told first.
    state.asked = watching.size();
    std::swap(state.watching, watching);
    std::move(watching.begin(), watching.end(), std::back_inserter(state.watching));
    lock.unlock();
    for (Watching& it : told) {
        if (keep_going()) it.notify();
    }
    told.clear();
    lock.lock();
    state.busy = false;
    state.changed.notify_all();
    return any;
}

bool Worker::sweep_all() {
    bool in_flight = false;
    for (CopyLane* lane : CopyLane::all()) {
        lane->sweep();
        in_flight = in_flight || !lane->idle();
    }
    return in_flight;
}

void Worker::work(const std::shared_ptr<State>& state) {
    own_state_ = state.get();
    Pauses pauses;
    std::unique_lock<std::mutex> lock(state->mutex);
    while (keep_going()) {
        if (std::exchange(state->anew, false)) pauses.restart();
        if (tell_who_watches(*state, lock) || run_next_job(*state, lock)) {
            pauses.restart();
        } else if (state->sweeping || !state->watching.empty()) {
            // Before the lanes are looked at: who drops a transfer behind our back asks again, and is heard.
            state->sweeping = false;
            lock.unlock();
            const bool in_flight = sweep_all();
            lock.lock();
            state->sweeping = state->sweeping || in_flight;
            if (!state->watching.empty()) {
                // What has ended since we looked is told at once.
                if (Flight::endings() == state->endings) {
                    const PunctualSleeps punctual;  // not longer: a callback may start threads, which inherit it
                    state->changed.wait_for(lock, pauses.next());
                }
            } else if (in_flight) {
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
