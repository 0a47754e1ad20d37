#pragma once

// The runtime in the place of CUDA's: it runs each launch, at once or where a simulated accelerator runs it.

#include <cstdint>

namespace kernel_on_cpu {

// What it answers, and what it was asked; tests write and read it.
struct Driver {
    // Answers.
    std::int32_t device = 0;
    std::int32_t version = 13000;
    std::int32_t device_error = 0;
    std::int32_t version_error = 0;
    std::int32_t launch_error = 0;
    std::int32_t launches_before_error = 0;  // that succeed
    std::uint32_t seed = 0;                  // of the order of threads
    // Questions.
    std::int32_t launches = 0;
    std::int32_t errors_cleared = 0;
    std::uint32_t blocks = 0;   // of the last launch
    std::uint32_t threads = 0;  // of each block
    std::uint32_t argument_bytes = 0;
};

extern Driver driver;

// A kernel, run as a launch of one argument is.
void run_grid(const void* kernel, std::uint32_t blocks, std::uint32_t threads, const void* argument);

// The thread that runs, counted over the whole grid.
std::uint32_t thread_of_grid();

// Where this process reaches what the kernel knows by an address.
const void* reachable(const void* address);

}  // namespace kernel_on_cpu

extern "C" {

// From now on launches go to a simulated accelerator: `launch` runs function(state) on a stream, `address` says where
// that reaches device memory, and nothing of other memory.
void kernel_on_cpu_launch_by(int (*launch)(void (*function)(void*), void* state, void* stream),
                             void* (*address)(const void*));
}
