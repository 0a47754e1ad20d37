#include "launch.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "shim.h"

thread_local GridIndex blockIdx, blockDim{1}, threadIdx;

namespace kernel_on_cpu {
namespace {

Launcher launch_elsewhere = nullptr;

struct Free {
    void operator()(void* memory) const { std::free(memory); }
};

// One launch, with a copy of its argument that ends where that ends: reading on is an error that ASan sees.
struct Grid {
    const void* kernel;
    std::uint32_t blocks, threads, seed;
    std::unique_ptr<void, Free> argument;
};

void run_and_forget(void* state) {
    const std::unique_ptr<Grid> grid(static_cast<Grid*>(state));
    run_grid(grid->kernel, grid->blocks, grid->threads, grid->argument.get(), grid->seed);
}

}  // namespace

void run_grid(const void* kernel, std::uint32_t blocks, std::uint32_t threads, const void* argument,
              std::uint32_t seed) {
    std::vector<std::uint32_t> order(std::size_t{blocks} * threads);
    std::iota(order.begin(), order.end(), 0);
    std::mt19937 random(seed);
    std::shuffle(order.begin(), order.end(), random);
    const auto entry = reinterpret_cast<void (*)(const void*)>(const_cast<void*>(kernel));
    blockDim = {threads};
    for (const std::uint32_t next : order) {
        blockIdx = {next / threads};
        threadIdx = {next % threads};
        entry(argument);
    }
}

void launch_by(Launcher elsewhere) {
    launch_elsewhere = elsewhere;
}

int launch_grid(const void* kernel, std::uint32_t blocks, std::uint32_t threads, const void* argument,
                std::size_t bytes, void* stream, std::uint32_t seed) {
    void* copy = nullptr;
    if (posix_memalign(&copy, 16, bytes) != 0) std::abort();
    std::memcpy(copy, argument, bytes);
    auto grid = std::make_unique<Grid>(Grid{kernel, blocks, threads, seed, std::unique_ptr<void, Free>(copy)});
    if (launch_elsewhere == nullptr) {
        run_and_forget(grid.release());
        return 0;
    }
    const int code = launch_elsewhere(run_and_forget, grid.get(), stream);
    if (code == 0) (void)grid.release();  // it is the stream's
    return code;
}

std::uint32_t thread_of_grid() {
    return blockIdx.x * blockDim.x + threadIdx.x;
}

}  // namespace kernel_on_cpu
