#pragma once

// What a cast of the kernels makes of one item, bit for bit what torch's `.to` makes of it on the same device: through
// the instructions that torch uses where these decide (which NaN comes of a NaN, for one), from the bits where torch
// does that.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "element_types.h"

namespace tnb::cuda {

template <unsigned BYTES>
struct Word;
template <>
struct Word<1> {
    using Type = std::uint8_t;
};
template <>
struct Word<2> {
    using Type = std::uint16_t;
};
template <>
struct Word<4> {
    using Type = std::uint32_t;
};
template <>
struct Word<8> {
    using Type = uint2;
};
template <>
struct Word<16> {
    using Type = uint4;
};

// What has the bits of an item of so many bytes.
template <unsigned BYTES>
using Bits = typename Word<BYTES>::Type;

template <typename To, typename From>
__device__ inline To bits_as(const From& from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}

constexpr std::uint32_t FLOAT32_INFINITY = 0x7f800000;

// As torch has it for the types with a single NaN.
__device__ inline float signalling_nan() {
    return bits_as<float>(FLOAT32_INFINITY + 1);
}

__device__ inline float with_sign_of(std::uint32_t byte, std::uint32_t magnitude) {
    return bits_as<float>((byte & 0x80) << 24 | magnitude);
}

// A float8 without its sign bit, finite: a subnormal one is so many times the smallest.
template <unsigned MANTISSA_BITS, unsigned BIAS>
__device__ inline std::uint32_t magnitude_of(std::uint32_t byte) {
    const std::uint32_t bits = byte & 0x7f;
    if (bits >> MANTISSA_BITS != 0) return (bits << (23 - MANTISSA_BITS)) + ((127 - BIAS) << 23);
    const float smallest = bits_as<float>((127 + 1 - BIAS - MANTISSA_BITS) << 23);
    return bits_as<std::uint32_t>(static_cast<float>(bits) * smallest);
}

template <Element SOURCE>
__device__ inline float to_float32(Bits<item_size(SOURCE)> item) {
    if constexpr (SOURCE == Element::float16) {
        return __half2float(__ushort_as_half(item));
    } else if constexpr (SOURCE == Element::bfloat16) {
        return __bfloat162float(__ushort_as_bfloat16(item));
    } else if constexpr (SOURCE == Element::float8_e5m2) {
        if ((item & 0x7f) < 0x7c) return with_sign_of(item, magnitude_of<2, 15>(item));
        // By arithmetic, which makes a NaN quiet as the device does it.
        const float special = bits_as<float>(FLOAT32_INFINITY | (item & 3u) << 21);
        return with_sign_of(item, bits_as<std::uint32_t>(special + special));
    } else if constexpr (SOURCE == Element::float8_e4m3fn) {
        const bool is_nan = (item & 0x7f) == 0x7f;
        return with_sign_of(item, is_nan ? FLOAT32_INFINITY | 7u << 20 : magnitude_of<3, 7>(item));
    } else if constexpr (SOURCE == Element::float8_e5m2fnuz) {
        return item == 0x80 ? signalling_nan() : with_sign_of(item, magnitude_of<2, 16>(item));
    } else if constexpr (SOURCE == Element::float8_e4m3fnuz) {
        return item == 0x80 ? signalling_nan() : with_sign_of(item, magnitude_of<3, 8>(item));
    } else if constexpr (SOURCE == Element::float8_e8m0fnu) {
        if (item == 0xff) return signalling_nan();
        return bits_as<float>(item == 0 ? 1u << 22 : static_cast<std::uint32_t>(item) << 23);
    } else if constexpr (SOURCE == Element::boolean) {
        return item != 0 ? 1.0f : 0.0f;  // torch asks no more of a bool
    } else {
        static_assert(SOURCE == Element::uint8);
        return static_cast<float>(item);
    }
}

template <Element DESTINATION>
__device__ inline Bits<item_size(DESTINATION)> from_float32(float value) {
    if constexpr (DESTINATION == Element::float16) {
        return __half_as_ushort(__float2half(value));
    } else if constexpr (DESTINATION == Element::float32) {
        return bits_as<std::uint32_t>(value);
    } else {
        static_assert(DESTINATION == Element::float64);
        return bits_as<uint2>(static_cast<double>(value));
    }
}

template <Element SOURCE, Element DESTINATION>
__device__ inline Bits<item_size(DESTINATION)> cast(Bits<item_size(SOURCE)> item) {
    if constexpr (SOURCE == Element::float64 && DESTINATION == Element::float32) {
        return bits_as<std::uint32_t>(static_cast<float>(bits_as<double>(item)));
    } else if constexpr (SOURCE == Element::int64 && DESTINATION == Element::int32) {
        return item.x;  // the low half
    } else {
        return from_float32<DESTINATION>(to_float32<SOURCE>(item));
    }
}

}  // namespace tnb::cuda
