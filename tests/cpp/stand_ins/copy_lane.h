#pragma once

#include <atomic>
#include <vector>

namespace tnb {

// What the worker knows of a copy lane, without torch: something with flights that sweeps land one by one.
class CopyLane {
public:
    static std::vector<CopyLane*> all() { return {&instance()}; }
    static CopyLane& instance() {
        static auto* lane = new CopyLane;
        return *lane;
    }

    void start_flights(int count) { in_flight_ += count; }
    void sweep() {
        int flights = in_flight_.load();
        while (flights > 0 && !in_flight_.compare_exchange_weak(flights, flights - 1)) {
        }
    }
    bool idle() const { return in_flight_ == 0; }

private:
    std::atomic<int> in_flight_{0};
};

}  // namespace tnb
