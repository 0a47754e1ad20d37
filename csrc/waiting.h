#pragma once

#include <sys/prctl.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <thread>

namespace tnb {

using Clock = std::chrono::steady_clock;

// How long to sleep between two questions: a small share of what was waited already, which is how much later than it
// was the end is seen at most; not so short that the questions keep a core, nor longer than what a batch of work takes.
class Pauses {
public:
    explicit Pauses(Clock::time_point begin = Clock::now()) noexcept : begin_(begin) {}
    Clock::duration next() const noexcept {
        using std::chrono::microseconds;
        return std::clamp<Clock::duration>((Clock::now() - begin_) / 32, microseconds(10), microseconds(500));
    }
    void restart() noexcept { begin_ = Clock::now(); }

private:
    Clock::time_point begin_;
};

// As long as one lives, sleeps of its thread end when they should. Linux lets them end some 50 µs late otherwise, which
// is as long as a copy of megabytes takes.
class PunctualSleeps {
public:
    PunctualSleeps() noexcept : slack_(prctl(PR_GET_TIMERSLACK)) { prctl(PR_SET_TIMERSLACK, 1UL); }
    PunctualSleeps(const PunctualSleeps&) = delete;
    PunctualSleeps& operator=(const PunctualSleeps&) = delete;
    ~PunctualSleeps() {
        if (slack_ > 0) prctl(PR_SET_TIMERSLACK, static_cast<unsigned long>(slack_));
    }

private:
    const int slack_;  // in nanoseconds
};

// Ask until `ended` says yes or the deadline has come; the last answer. A wait that is nearly over is not worth a
// sleep, one that is not must leave the core to others. One that goes on with another has begun when that did.
template <class Condition>
bool wait_until(Clock::time_point deadline, Condition&& ended, Clock::time_point begin = Clock::now()) {
    const Clock::time_point polling_ends = begin + std::chrono::microseconds(50);
    const Pauses pauses(begin);
    std::optional<PunctualSleeps> punctual;
    while (!ended()) {
        const Clock::time_point now = Clock::now();
        if (now >= deadline) return false;
        if (now < polling_ends) continue;
        if (!punctual.has_value()) punctual.emplace();
        std::this_thread::sleep_for(std::min(pauses.next(), deadline - now));
    }
    return true;
}

}  // namespace tnb
