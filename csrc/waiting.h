#pragma once

#include <algorithm>
#include <chrono>
#include <thread>

namespace tnb {

using Clock = std::chrono::steady_clock;

// How long to sleep between two questions: Linux wakes a sleeper some 50 µs late, so the first pauses are of that
// order; then they double, up to half a millisecond, which is below what a batch of work takes.
class Pauses {
public:
    Clock::duration next() noexcept {
        const auto pause = pause_;
        pause_ = std::min(2 * pause, std::chrono::microseconds(500));
        return pause;
    }
    void restart() noexcept { pause_ = first; }

private:
    static constexpr std::chrono::microseconds first{20};
    std::chrono::microseconds pause_{first};
};

// Ask until `ended` says yes or the deadline has come; the last answer. A wait that is nearly over is not worth a
// sleep, one that is not must leave the core to others; a sleep costs some 50 µs, so that is how long polling can win.
template <class Condition>
bool wait_until(Clock::time_point deadline, Condition&& ended) {
    using std::chrono::microseconds;
    const Clock::time_point polling_ends = Clock::now() + microseconds(50);
    Pauses pauses;
    while (!ended()) {
        const Clock::time_point now = Clock::now();
        if (now >= deadline) return false;
        if (now < polling_ends) continue;
        std::this_thread::sleep_for(std::min(pauses.next(), deadline - now));
    }
    return true;
}

}  // namespace tnb
