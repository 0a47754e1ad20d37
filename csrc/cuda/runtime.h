#pragma once

// The calls of the CUDA runtime that the kernels' host half makes, over one table, so that tests can put others in
// their place, and each error path runs without a GPU. The answers are cudaError_t, 0 for success.

#include <cstddef>

namespace tnb::cuda {

inline constexpr int CUDA_INVALID_VALUE = 1;
inline constexpr int CUDA_INVALID_DEVICE = 101;

struct Runtime {
    int (*current_device)(int* device);
    int (*driver_version)(int* version);  // 1000 * major + 10 * minor
    // A kernel of one argument, of which so many bytes are used.
    int (*launch)(const void* kernel, unsigned blocks, unsigned threads, const void* argument, std::size_t bytes,
                  void* stream);
    int (*clear_error)();
};

extern Runtime runtime;

}  // namespace tnb::cuda
