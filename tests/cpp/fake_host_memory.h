#pragma once

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

#include "check.h"
#include "host_memory.h"

// What is really held by all memories that one system stands behind, their caches included.
struct FakeSystem {
    std::atomic<std::size_t> locked{0};
    std::atomic<std::size_t> allocations{0};
    std::size_t limit = SIZE_MAX;
};

// Page-locked memory of malloc. Like torch's host allocators it keeps what is given back, until it is told to let go.
class FakeHostMemory final : public tnb::HostMemory {
public:
    static constexpr std::size_t smallest_slab = 64 * 1024;

    explicit FakeHostMemory(FakeSystem& system) : system_(system) {}
    ~FakeHostMemory() override { CHECK(live_ == 0 || leaks_); }

    std::size_t slab_bytes(std::size_t bytes, std::size_t held) const noexcept override {
        std::size_t rounded = smallest_slab;
        while (rounded < bytes || rounded < held / 2) rounded *= 2;
        return rounded;
    }

    Allocation allocate(std::size_t slab_bytes) override {
        CHECK(slab_bytes >= smallest_slab && (slab_bytes & (slab_bytes - 1)) == 0);
        if (refuse_.exchange(false) || slab_bytes > largest_) throw std::bad_alloc();
        void* data = std::aligned_alloc(4096, slab_bytes);
        CHECK(data != nullptr);
        live_ += slab_bytes;
        system_.allocations += 1;
        CHECK((system_.locked += slab_bytes) <= system_.limit);
        return {data, data};
    }

    void deallocate(const Allocation& allocation, std::size_t slab_bytes, bool inherited) noexcept override {
        CHECK(allocation.data == allocation.handle);
        inherited_ += static_cast<int>(inherited);
        std::free(allocation.handle);
        live_ -= slab_bytes;
        cached_ += slab_bytes;
    }

    std::size_t reclaim(tnb::Clock::time_point, bool) noexcept override {
        if (busy_) return 0;
        const std::size_t gone = cached_.exchange(0);
        system_.locked -= gone;
        return gone;
    }

    c10::DeviceType device_type() const noexcept override { return c10::DeviceType{1}; }

    bool shared_with_children() const noexcept override { return shared_; }

    void refuse_once() { refuse_ = true; }
    // More than this cannot be locked at once.
    void set_largest(std::size_t bytes) { largest_ = bytes; }
    void set_shared_with_children(bool shared) { shared_ = shared; }
    // How many slabs came back that a child may see.
    int inherited() const { return inherited_; }
    // Whether the device still uses what was given back.
    void set_busy(bool busy) { busy_ = busy; }
    // Expect the memory to be left to the system at the end of the process.
    void allow_leak() { leaks_ = true; }

private:
    FakeSystem& system_;
    std::atomic<std::size_t> live_{0};
    std::atomic<std::size_t> cached_{0};
    std::atomic<bool> refuse_{false};
    std::atomic<bool> busy_{false};
    std::atomic<int> inherited_{0};
    std::size_t largest_ = SIZE_MAX;
    bool shared_ = true;
    bool leaks_ = false;
};
