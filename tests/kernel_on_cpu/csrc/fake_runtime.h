#pragma once

// The runtime in the place of CUDA's. What it answers is what a test wants; or what a simulated accelerator does, once
// there is one, for whose device type the entries of csrc/cuda/ are then as for CUDA.

#include <atomic>
#include <cstdint>

namespace kernel_on_cpu {

// The calls of csrc/cuda/runtime.h, in its order.
enum Call : unsigned {
    CURRENT_DEVICE,
    DRIVER_VERSION,
    LAUNCH,
    STREAM_IS_CAPTURING,
    EXCHANGE_CAPTURE_MODE,
    LOCK_PAGES,
    UNLOCK_PAGES,
    ALLOCATE_PAGES,
    FREE_PAGES,
    KIND_OF_POINTER,
    DEVICE_ADDRESS,
    COPY_TO_HOST,
    CALLS
};

// What it answers, and what it was asked; tests write and read it.
struct Driver {
    // Answers.
    std::int32_t device = 0;
    std::int32_t version = 13000;
    std::int32_t pointer_kind = 1;
    std::int32_t capture_status = 0;
    std::int32_t errors[CALLS] = {};         // of each call, 0 for none
    std::int32_t launches_before_error = 0;  // that succeed
    std::uint32_t seed = 0;                  // of the order of threads
    // Questions.
    std::atomic<std::int32_t> launches = 0;
    std::atomic<std::int32_t> errors_cleared = 0;
    std::atomic<std::uint32_t> blocks = 0;   // of the last launch
    std::atomic<std::uint32_t> threads = 0;  // of each block
    std::atomic<std::uint32_t> argument_bytes = 0;
    std::atomic<std::int32_t> calls[CALLS] = {};
};

extern Driver driver;

// Where this process reaches what the kernel knows by an address.
const void* reachable(const void* address);

}  // namespace kernel_on_cpu
