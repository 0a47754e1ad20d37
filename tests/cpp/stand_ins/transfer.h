#pragma once

#include <atomic>
#include <cstdint>

namespace tnb {

// What the worker knows of a transfer, without torch: that it is over, and how many flights have ended.
class Flight {
public:
    static std::uint64_t endings() { return count().load(); }
    static std::atomic<std::uint64_t>& count() {
        static std::atomic<std::uint64_t> instance{0};
        return instance;
    }
};

class Transfer {
public:
    bool over() const { return over_.load(); }
    void end() {
        over_.store(true);
        Flight::count().fetch_add(1);
    }

private:
    std::atomic<bool> over_{false};
};

}  // namespace tnb
