// float16 as IEEE 754 has it. A NaN keeps its sign and the highest bits that fit, and becomes quiet, as x86 and ARM do
// it.

#include "shim.h"

namespace kernel_on_cpu {

std::uint32_t float32_from_half(std::uint16_t bits) {
    const std::uint32_t sign = std::uint32_t{bits & 0x8000u} << 16;
    const std::uint32_t exponent = bits >> 10 & 0x1f, mantissa = bits & 0x3ff;
    if (exponent == 0x1f) return sign | 0x7f800000 | mantissa << 13 | (mantissa != 0 ? 1u << 22 : 0);
    if (exponent != 0) return sign | (exponent + 112) << 23 | mantissa << 13;
    const float value = static_cast<float>(mantissa) * 0x1p-24f;
    std::uint32_t magnitude;
    std::memcpy(&magnitude, &value, sizeof magnitude);
    return sign | magnitude;
}

std::uint16_t half_from_float32(std::uint32_t bits) {
    const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000);
    const std::uint32_t magnitude = bits & 0x7fffffff;
    const auto signed_ = [sign](std::uint32_t half) { return static_cast<std::uint16_t>(sign | half); };
    if (magnitude > 0x7f800000) return signed_(0x7e00 | (magnitude >> 13 & 0x3ff));
    if (magnitude >= 0x47800000) return signed_(0x7c00);  // 65536, and infinity
    // Bits below the last that stays decide about rounding to the nearest, to even where two are as near.
    std::uint32_t shift = 13, kept = magnitude - (112u << 23);
    if (magnitude < 113u << 23) {  // becomes subnormal, or zero
        const std::uint32_t exponent = magnitude >> 23;
        if (exponent < 101) return signed_(0);
        shift = 126 - exponent;
        kept = (magnitude & 0x7fffff) | 0x800000;
    }
    const std::uint32_t half = kept >> shift, rest = kept & ((1u << shift) - 1), tie = 1u << (shift - 1);
    return signed_(half + (rest > tie || (rest == tie && (half & 1) != 0)));
}

}  // namespace kernel_on_cpu
