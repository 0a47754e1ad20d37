#pragma once

// Runs each launch of a kernel, at once or where a simulated accelerator runs it.

#include <cstddef>
#include <cstdint>

namespace kernel_on_cpu {

// A kernel, run as a launch of one argument is; `seed` is for the order of its threads.
void run_grid(const void* kernel, std::uint32_t blocks, std::uint32_t threads, const void* argument,
              std::uint32_t seed);

// From now on launches go to `elsewhere`, which runs function(state) on a stream; null: they run at once.
using Launcher = int (*)(void (*function)(void*), void* state, void* stream);
void launch_by(Launcher elsewhere);
int launch_grid(const void* kernel, std::uint32_t blocks, std::uint32_t threads, const void* argument,
                std::size_t bytes, void* stream, std::uint32_t seed);

// The thread that runs, counted over the whole grid.
std::uint32_t thread_of_grid();

}  // namespace kernel_on_cpu
