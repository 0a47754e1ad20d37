#pragma once

// The calls of the CUDA runtime that this extension makes, over one table, so that tests can put others in their place,
// and each entry and each error path runs without a GPU. The answers are cudaError_t, 0 for success.

#include <cstddef>

namespace tnb::cuda {

inline constexpr int CUDA_INVALID_VALUE = 1;
inline constexpr int CUDA_INSUFFICIENT_DRIVER = 35;
inline constexpr int CUDA_NEEDS_NEWER_DRIVER = 36;
inline constexpr int CUDA_INVALID_DEVICE = 101;
inline constexpr int CUDA_NO_BINARY = 209;
inline constexpr int CUDA_PTX_TOO_NEW = 222;
inline constexpr int CUDA_NOT_SUPPORTED = 801;
inline constexpr int CUDA_CAPTURE_IMPLICIT = 906;

inline constexpr int CUDA_HOST_MEMORY = 1;  // of a pointer's kinds

struct Runtime {
    int (*current_device)(int* device);
    int (*driver_version)(int* version);  // 1000 * major + 10 * minor
    // A kernel of one argument, of which so many bytes are used.
    int (*launch)(const void* kernel, unsigned blocks, unsigned threads, const void* argument, std::size_t bytes,
                  void* stream);
    // 0: none.
    int (*stream_is_capturing)(void* stream, int* status);
    int (*exchange_capture_mode)(int* mode);
    // For all devices.
    int (*lock_pages)(void* address, std::size_t bytes);
    int (*unlock_pages)(void* address);
    int (*allocate_pages)(void** address, std::size_t bytes);
    int (*free_pages)(void* address);
    // Whose memory an address is of.
    int (*kind_of_pointer)(const void* address, int* kind);
    // Where the current device sees page-locked memory.
    int (*device_address)(void* host, void** address);
    int (*copy_to_host)(void* destination, const void* source, std::size_t bytes, void* stream);
    const char* (*describe_error)(int code);
    int (*clear_error)();
};

extern Runtime runtime;

}  // namespace tnb::cuda
