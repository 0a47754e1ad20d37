#pragma once

#include <cstddef>
#include <memory>

#include "waiting.h"

namespace c10 {
enum class DeviceType : signed char;
}

namespace tnb {

// Where page-locked bytes come from: the policy of a HostPool, so that the pool is tested without a device.
class HostMemory {
public:
    struct Allocation {
        void* data = nullptr;
        void* handle = nullptr;  // what the policy needs to free it
    };

    virtual ~HostMemory() = default;

    // The bytes that a slab for a block of `bytes` bytes should have, where `held` are held already: all of them are
    // locked, rounding included, and at least `bytes`.
    virtual std::size_t slab_bytes(std::size_t bytes, std::size_t held) const noexcept = 0;
    // Exactly `slab_bytes` bytes, an answer of the function of that name, aligned to block_alignment. May call the
    // device and may wait for it; throws.
    virtual Allocation allocate(std::size_t slab_bytes) = 0;
    // Takes memory back. It counts as held until reclaim() has told that it is gone. What is `inherited` by a forked
    // child that shares it is not allocated again before that.
    virtual void deallocate(const Allocation& allocation, std::size_t slab_bytes, bool inherited) noexcept = 0;
    // Give what was taken back to the system, as far as the device has let go of it before the deadline; the bytes that
    // have gone since the last call. What others left in a cache behind this memory goes only with `others` or when
    // there is something of ours to give back: it is of use to them.
    virtual std::size_t reclaim(Clock::time_point deadline, bool others) noexcept = 0;
    // The device type that copies to it behind our back.
    virtual c10::DeviceType device_type() const noexcept = 0;
    // Whether a forked child sees what its parent writes to it, as with what drivers allocate.
    virtual bool shared_with_children() const noexcept = 0;
    // From the next fork on a child gets the memory, or none in its place. Called between the handlers of a fork, so
    // nothing is locked nor allocated.
    virtual void set_inheritable(const Allocation& /*allocation*/, std::size_t /*slab_bytes*/, bool) noexcept {}
};

class PinnedBudget;

// What own_pages.h has where the device type's driver gives that, else memory of its host allocator.
std::unique_ptr<HostMemory> make_host_memory(c10::DeviceType type, PinnedBudget& budget);

}  // namespace tnb
