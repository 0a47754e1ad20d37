#include "launch.h"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "pack_arguments.h"
#include "runtime.h"
#include "shim.h"

thread_local GridIndex blockIdx, threadIdx;

namespace kernel_on_cpu {

Driver driver;

namespace {

thread_local std::uint32_t threads_of_block = 1;

int (*launch_elsewhere)(void (*)(void*), void*, void*) = nullptr;
void* (*address_elsewhere)(const void*) = nullptr;

struct Free {
    void operator()(void* memory) const { std::free(memory); }
};

// One launch, with a copy of its argument that ends where that ends: reading on is an error that ASan sees.
struct Grid {
    const void* kernel;
    std::uint32_t blocks, threads;
    std::unique_ptr<void, Free> argument;
};

void run_and_forget(void* state) {
    const std::unique_ptr<Grid> grid(static_cast<Grid*>(state));
    run_grid(grid->kernel, grid->blocks, grid->threads, grid->argument.get());
}

int current_device(int* device) {
    *device = driver.device;
    return driver.device_error;
}

int driver_version(int* version) {
    *version = driver.version;
    return driver.version_error;
}

int launch(const void* kernel, unsigned blocks, unsigned threads, const void* argument, std::size_t bytes,
           void* stream) {
    if (driver.launch_error != 0 && driver.launches >= driver.launches_before_error) return driver.launch_error;
    // More than the driver takes: CUDA would refuse to load such a kernel.
    if (bytes > (driver.version >= tnb::cuda::LARGE_ARGUMENTS_SINCE ? tnb::cuda::LARGE_ARGUMENTS
                                                                    : tnb::cuda::SMALL_ARGUMENTS)) {
        return tnb::cuda::CUDA_INVALID_VALUE;
    }
    ++driver.launches;
    driver.blocks = blocks;
    driver.threads = threads;
    driver.argument_bytes = static_cast<std::uint32_t>(bytes);
    void* copy = nullptr;
    if (posix_memalign(&copy, 16, bytes) != 0) std::abort();
    std::memcpy(copy, argument, bytes);
    auto grid = std::make_unique<Grid>(Grid{kernel, blocks, threads, std::unique_ptr<void, Free>(copy)});
    if (launch_elsewhere != nullptr) return launch_elsewhere(run_and_forget, grid.release(), stream);
    run_and_forget(grid.release());
    return 0;
}

int clear_error() {
    ++driver.errors_cleared;
    return 0;
}

}  // namespace

void run_grid(const void* kernel, std::uint32_t blocks, std::uint32_t threads, const void* argument) {
    std::vector<std::uint32_t> order(std::size_t{blocks} * threads);
    std::iota(order.begin(), order.end(), 0);
    std::mt19937 random(driver.seed);
    std::shuffle(order.begin(), order.end(), random);
    const auto entry = reinterpret_cast<void (*)(const void*)>(const_cast<void*>(kernel));
    threads_of_block = threads;
    for (const std::uint32_t next : order) {
        blockIdx = {next / threads};
        threadIdx = {next % threads};
        entry(argument);
    }
}

std::uint32_t thread_of_grid() {
    return blockIdx.x * threads_of_block + threadIdx.x;
}

const void* reachable(const void* address) {
    const void* elsewhere = address_elsewhere == nullptr ? nullptr : address_elsewhere(address);
    return elsewhere == nullptr ? address : elsewhere;
}

}  // namespace kernel_on_cpu

namespace tnb::cuda {

Runtime runtime = {kernel_on_cpu::current_device, kernel_on_cpu::driver_version, kernel_on_cpu::launch,
                   kernel_on_cpu::clear_error};

}  // namespace tnb::cuda

void kernel_on_cpu_launch_by(int (*launch)(void (*)(void*), void*, void*), void* (*address)(const void*)) {
    kernel_on_cpu::launch_elsewhere = launch;
    kernel_on_cpu::address_elsewhere = address;
}
