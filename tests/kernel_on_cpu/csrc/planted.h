#pragma once

// Kernels with a fault each, and one without: what the watch has to say of them is its own test.

#include <cstdint>

namespace kernel_on_cpu {

enum Planted : std::int32_t {
    NO_FAULT,
    OVERLAP,
    GAP,
    READ_OUTSIDE,
    WRITTEN_OUTSIDE,
    MISALIGNED_STORE,
    MISALIGNED_LOAD
};

// A copy of `units` 16-byte units, one by each thread.
void run_planted(Planted fault, const void* source, void* destination, std::uint32_t units);

}  // namespace kernel_on_cpu
