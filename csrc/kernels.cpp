#include "kernels.h"

#include <c10/core/ScalarType.h>

#include "cuda/element_types.h"
#include "shortfalls.h"

namespace tnb {
namespace {

constexpr bool is(cuda::Element ours, c10::ScalarType torchs) {
    return static_cast<int>(ours) == static_cast<int>(torchs);
}

using c10::ScalarType;
using cuda::Element;
static_assert(is(Element::uint8, ScalarType::Byte) && is(Element::int8, ScalarType::Char));
static_assert(is(Element::int16, ScalarType::Short) && is(Element::int32, ScalarType::Int));
static_assert(is(Element::int64, ScalarType::Long) && is(Element::float16, ScalarType::Half));
static_assert(is(Element::float32, ScalarType::Float) && is(Element::float64, ScalarType::Double));
static_assert(is(Element::complex32, ScalarType::ComplexHalf) && is(Element::complex64, ScalarType::ComplexFloat));
static_assert(is(Element::complex128, ScalarType::ComplexDouble) && is(Element::boolean, ScalarType::Bool));
static_assert(is(Element::bfloat16, ScalarType::BFloat16) && is(Element::uint16, ScalarType::UInt16));
static_assert(is(Element::uint32, ScalarType::UInt32) && is(Element::uint64, ScalarType::UInt64));
static_assert(is(Element::float8_e5m2, ScalarType::Float8_e5m2));
static_assert(is(Element::float8_e4m3fn, ScalarType::Float8_e4m3fn));
static_assert(is(Element::float8_e5m2fnuz, ScalarType::Float8_e5m2fnuz));
static_assert(is(Element::float8_e4m3fnuz, ScalarType::Float8_e4m3fnuz));
static_assert(is(Element::float8_e8m0fnu, ScalarType::Float8_e8m0fnu));

}  // namespace
}  // namespace tnb

#ifdef TNB_WITH_KERNELS

#include "cuda/driver.h"
#include "cuda/selftest.h"

namespace tnb {

std::string kernels() {
    return TNB_CUDA_ARCHS " (CUDA " TNB_CUDA_TOOLKIT ")" + lack_of_kernels();
}

std::string kernel_selftest(int device) {
    const int code = tnb_cuda_selftest(device);
    if (code == 0) return "";
    const char* why = tnb_cuda_why_no_kernels(code);
    return tnb_cuda_error_name(code) + (why == nullptr ? std::string() : std::string(": ") + why);
}

}  // namespace tnb

#else

namespace tnb {

std::string kernels() {
    return "none: built without a CUDA toolkit" + lack_of_kernels();
}

std::string kernel_selftest(int) {
    return kernels();
}

}  // namespace tnb

#endif
