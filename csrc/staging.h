#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "host_block.h"
#include "layout.h"
#include "transfer.h"

namespace tnb {

class CopyLane;
class HostPool;
class ProfiledCopies;

// A few page-locked chunks through which a device reaches ordinary memory: while one chunk is emptied by the host, the
// next ones are filled by the device. Used by one thread at a time, the worker of an engine.
class StagingRing {
public:
    // 4 MiB keep the bus busy for some 70 µs at 55 GB/s, many times what starting a copy costs; four chunks let
    // filling and emptying each be late once.
    static constexpr std::size_t chunk_bytes = std::size_t{4} << 20;
    static constexpr std::size_t chunks = 4;
    static constexpr std::size_t bytes = chunks * chunk_bytes;

    explicit StagingRing(HostBlock memory) : memory_(std::move(memory)) {}

    // Copy a tensor that is dense on the device of the lane to `destination`. The last chunks may still be on their
    // way when it returns; drain() brings them in. Both wait, throw what the device throws, and give up when the
    // process exits.
    void copy(CopyLane& lane, const at::Tensor& dense, char* destination);
    void drain();
    // After a failure: nothing is on its way any more, as far as this ring is concerned.
    void forget() noexcept;

private:
    struct Slot {
        std::shared_ptr<c10::Event> filled;
        c10::DeviceType device_type = c10::DeviceType::CPU;
        c10::DeviceIndex device_index = -1;
        char* destination = nullptr;
        std::size_t bytes = 0;
    };

    void empty(std::size_t slot);
    char* chunk(std::size_t slot) const { return static_cast<char*>(memory_.data()) + slot * chunk_bytes; }

    HostBlock memory_;
    std::array<Slot, chunks> slots_;
    std::size_t next_ = 0;
};

// The rings that the engines of one limit share: each is used by one worker at a time and kept for the next.
class StagingRings {
public:
    // An idle ring, else a new one from the pool; nullptr where there is no memory for one.
    std::unique_ptr<StagingRing> take(c10::DeviceType type, HostPool& pool);
    void put(c10::DeviceType type, std::unique_ptr<StagingRing> ring) noexcept;
    // Give the memory of idle rings back to their pools.
    void clear();

private:
    using Idle = std::vector<std::pair<c10::DeviceType, std::unique_ptr<StagingRing>>>;

    std::mutex mutex_;  // guards the list
    Idle idle_;
};

// Leaves of one device on their way to ordinary memory. Holds what the copies use, the destinations too.
struct StagedCopy {
    // Where dense values go in the end that are to have gaps between them.
    struct Spread {
        std::shared_ptr<char> memory;
        at::DimVector strides;  // in elements
    };
    struct Leaf {
        at::Tensor source;
        Layout layout;
        std::shared_ptr<char> memory;
        Spread spread;
    };

    CopyLane* lane;
    std::shared_ptr<StagingRings> rings;
    std::shared_ptr<HostPool> pool;  // for a new ring
    std::vector<Leaf> leaves;
    std::shared_ptr<Flight> flight;
    std::shared_ptr<ProfiledCopies> profiled;  // or nullptr
    std::unique_ptr<StagingRing> left;         // to the device, after a failure
};

// Copies the leaves, behind what the copy stream waits for already, and ends the flight; waits for each copy where
// there is no ring.
void stage(std::shared_ptr<StagedCopy> staged) noexcept;

}  // namespace tnb
