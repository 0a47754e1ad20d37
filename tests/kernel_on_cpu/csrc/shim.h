#pragma once

// What the kernels' sources need of CUDA to be C++: included before each of them.
//
// A launch is a loop over all threads of its grid, in a shuffled order, each from its beginning to its end: kernels
// that wait for one another's threads (barriers, shuffles) do not run here. Memory is reached through the intrinsics
// below alone, and these look at each access (watch.h). The conversions are those of the processor, as torch uses them
// on the CPU.

#include <cstdint>
#include <cstring>

#define __global__
#define __device__
#define __launch_bounds__(...)
// After the type of a kernel's argument: nobody copies it for each thread.
#define __grid_constant__ &

struct alignas(8) uint2 {
    std::uint32_t x, y;
};

struct alignas(16) uint4 {
    std::uint32_t x, y, z, w;
};

inline uint2 make_uint2(std::uint32_t x, std::uint32_t y) {
    return {x, y};
}

inline uint4 make_uint4(std::uint32_t x, std::uint32_t y, std::uint32_t z, std::uint32_t w) {
    return {x, y, z, w};
}

struct GridIndex {
    std::uint32_t x;
};

extern thread_local GridIndex blockIdx, blockDim, threadIdx;

namespace kernel_on_cpu {

// Of so many bytes, which their address has to be a multiple of.
void read_memory(const void* from, void* value, std::size_t bytes);
void write_memory(void* to, const void* value, std::size_t bytes);

std::uint32_t float32_from_half(std::uint16_t bits);
std::uint16_t half_from_float32(std::uint32_t bits);

}  // namespace kernel_on_cpu

template <typename T>
T __ldg(const T* from) {
    T value;
    kernel_on_cpu::read_memory(from, &value, sizeof value);
    return value;
}

template <typename T>
T __ldcs(const T* from) {
    return __ldg(from);
}

template <typename T>
void __stcs(T* to, T value) {
    kernel_on_cpu::write_memory(to, &value, sizeof value);
}

struct __half {
    std::uint16_t bits;
};

struct __nv_bfloat16 {
    std::uint16_t bits;
};

inline __half __ushort_as_half(std::uint16_t bits) {
    return {bits};
}

inline std::uint16_t __half_as_ushort(__half value) {
    return value.bits;
}

inline __nv_bfloat16 __ushort_as_bfloat16(std::uint16_t bits) {
    return {bits};
}

inline float __half2float(__half value) {
    const std::uint32_t bits = kernel_on_cpu::float32_from_half(value.bits);
    float result;
    std::memcpy(&result, &bits, sizeof result);
    return result;
}

inline __half __float2half(float value) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return {kernel_on_cpu::half_from_float32(bits)};
}

inline float __bfloat162float(__nv_bfloat16 value) {
    const std::uint32_t bits = std::uint32_t{value.bits} << 16;
    float result;
    std::memcpy(&result, &bits, sizeof result);
    return result;
}
