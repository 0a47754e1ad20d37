#pragma once

#include <functional>
#include <memory>
#include <mutex>

#include "waiting.h"

namespace tnb {

class Transfer;

// The thread of one engine for everything that needs one: staged copies, telling who wants to hear of the end of a
// transfer, and letting go of flights that nobody will ask about. It starts on first need, and sleeps while there is
// nothing to do.
//
// At interpreter exit it stops where it stands: a job asks keep_going() wherever it waits.
class Worker {
public:
    using Job = std::function<void()>;

    Worker();
    Worker(const Worker&) = delete;
    Worker& operator=(const Worker&) = delete;
    // Does not wait: jobs that were given are still done.
    ~Worker();

    // Jobs are run one after the other, in the order in which they are given. They must not throw. Throws where no
    // thread can be started; the job is not run then.
    void run(Job job);
    // Call `notify` once the transfer has ended, well or not; it must not throw, and may wait for what this worker
    // does: see help(). Throws where no thread can be started.
    void watch(std::shared_ptr<Transfer> transfer, Job notify);
    // Sweep the lanes until nothing is in flight: somebody has dropped a transfer before its end.
    void sweep_lanes() noexcept;
    // Whether all jobs were done, and all who watch were told, before the deadline. The worker itself, in what it
    // calls, does its jobs meanwhile.
    bool wait_idle(Clock::time_point deadline);
    // Who waits on a worker's own thread, in a function that it calls, does its jobs first: nobody else would.
    static bool is_this_thread() noexcept { return own_state_ != nullptr; }
    static void help();

    static bool keep_going() noexcept;
    // Called when the interpreter is about to exit: returns when every worker has stopped, or soon in any case.
    static void stop_all() noexcept;

private:
    struct State;
    struct Registry;
    static Registry& registry();
    // Under the lock of the state. Lock order: a state's lock, then the registry's.
    void start_once();
    static void work(const std::shared_ptr<State>& state);
    static bool run_next_job(State& state, std::unique_lock<std::mutex>& lock);
    static bool tell_who_watches(State& state, std::unique_lock<std::mutex>& lock);
    static bool sweep_all();

    static thread_local State* own_state_;

    std::shared_ptr<State> state_;
};

}  // namespace tnb
