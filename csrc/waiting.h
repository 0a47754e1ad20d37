#pragma once

#include <algorithm>
#include <chrono>
#include <thread>

namespace tnb {

using Clock = std::chrono::steady_clock;

// Ask until `ended` says yes or the deadline has come; the last answer. A wait that is nearly over is not worth a
// sleep, one that is not must leave the core to others: Linux wakes a sleeper some 50 µs late, so that is how long
// polling can win; then the pauses double, up to half a millisecond, which is below what a batch of work takes.
template <class Condition>
bool wait_until(Clock::time_point deadline, Condition&& ended) {
    using std::chrono::microseconds;
    const Clock::time_point polling_ends = Clock::now() + microseconds(50);
    microseconds pause{20};
    while (!ended()) {
        const Clock::time_point now = Clock::now();
        if (now >= deadline) return false;
        if (now < polling_ends) continue;
        std::this_thread::sleep_for(std::min<Clock::duration>(pause, deadline - now));
        pause = std::min(2 * pause, microseconds(500));
    }
    return true;
}

}  // namespace tnb
