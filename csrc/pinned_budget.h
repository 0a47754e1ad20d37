#pragma once

#include <atomic>
#include <cstddef>

namespace tnb {

// The most page-locked bytes that the pools sharing a budget may hold together. Reserved before memory is locked and
// released after it was given back, so that what is held never exceeds the limit, not even for a moment.
class PinnedBudget {
public:
    explicit PinnedBudget(std::size_t limit) noexcept : limit_(limit) {}

    // Whether there was room for `bytes` with `headroom` to spare; they are reserved then.
    bool reserve(std::size_t bytes, std::size_t headroom) noexcept {
        if (headroom > limit_ || bytes > limit_ - headroom) return false;
        std::size_t held = held_.load(std::memory_order_relaxed);
        do {
            if (held > limit_ - headroom - bytes) return false;
        } while (!held_.compare_exchange_weak(held, held + bytes, std::memory_order_relaxed));
        return true;
    }
    void release(std::size_t bytes) noexcept { held_.fetch_sub(bytes, std::memory_order_relaxed); }

    std::size_t limit() const noexcept { return limit_; }
    std::size_t held() const noexcept { return held_.load(std::memory_order_relaxed); }

private:
    const std::size_t limit_;
    std::atomic<std::size_t> held_{0};
};

}  // namespace tnb
