#pragma once

// The types of elements as the kernels know them, and the one table of the casts that they make. Plain C++.

#include <cstddef>
#include <cstdint>

namespace tnb::cuda {

// The values are those of c10::ScalarType; csrc/kernels.cpp has them compared.
enum class Element : std::int8_t {
    uint8 = 0,
    int8 = 1,
    int16 = 2,
    int32 = 3,
    int64 = 4,
    float16 = 5,
    float32 = 6,
    float64 = 7,
    complex32 = 8,
    complex64 = 9,
    complex128 = 10,
    boolean = 11,
    bfloat16 = 15,
    float8_e5m2 = 23,
    float8_e4m3fn = 24,
    float8_e5m2fnuz = 25,
    float8_e4m3fnuz = 26,
    uint16 = 27,
    uint32 = 28,
    uint64 = 29,
    float8_e8m0fnu = 44,
};

// 0 for what the kernels do not know.
constexpr unsigned item_size(Element type) {
    switch (type) {
        case Element::uint8:
        case Element::int8:
        case Element::boolean:
        case Element::float8_e5m2:
        case Element::float8_e4m3fn:
        case Element::float8_e5m2fnuz:
        case Element::float8_e4m3fnuz:
        case Element::float8_e8m0fnu:
            return 1;
        case Element::int16:
        case Element::uint16:
        case Element::float16:
        case Element::bfloat16:
            return 2;
        case Element::int32:
        case Element::uint32:
        case Element::float32:
        case Element::complex32:
            return 4;
        case Element::int64:
        case Element::uint64:
        case Element::float64:
        case Element::complex64:
            return 8;
        case Element::complex128:
            return 16;
    }
    return 0;
}

struct Cast {
    Element source, destination;
};

// The kernel has one instance for each row. To add a pair, add a row, and to cast.h what it has not yet.
inline constexpr Cast CASTS[] = {
    {Element::float16, Element::float32},         {Element::float16, Element::float64},
    {Element::bfloat16, Element::float32},        {Element::bfloat16, Element::float64},
    {Element::bfloat16, Element::float16},        {Element::float8_e5m2, Element::float32},
    {Element::float8_e5m2, Element::float64},     {Element::float8_e5m2, Element::float16},
    {Element::float8_e4m3fn, Element::float32},   {Element::float8_e4m3fn, Element::float64},
    {Element::float8_e4m3fn, Element::float16},   {Element::float8_e5m2fnuz, Element::float32},
    {Element::float8_e5m2fnuz, Element::float64}, {Element::float8_e5m2fnuz, Element::float16},
    {Element::float8_e4m3fnuz, Element::float32}, {Element::float8_e4m3fnuz, Element::float64},
    {Element::float8_e4m3fnuz, Element::float16}, {Element::float8_e8m0fnu, Element::float32},
    {Element::float8_e8m0fnu, Element::float64},  {Element::float8_e8m0fnu, Element::float16},
    {Element::float64, Element::float32},         {Element::int64, Element::int32},
    {Element::boolean, Element::float32},         {Element::uint8, Element::float32},
};
inline constexpr std::size_t CAST_COUNT = sizeof CASTS / sizeof *CASTS;

}  // namespace tnb::cuda
