#pragma once

#include <functional>
#include <memory>

#include "waiting.h"

namespace tnb {

// The thread of one engine for everything that needs one: staged copies, and letting go of flights that nobody will
// ask about. It starts on first need, and sleeps while there is nothing to do.
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
    // Sweep the lanes until nothing is in flight: somebody has dropped a transfer before its end.
    void sweep_lanes() noexcept;
    // Whether all jobs were done before the deadline.
    bool wait_idle(Clock::time_point deadline);

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

    std::shared_ptr<State> state_;
};

}  // namespace tnb
