#include "kernels.h"

#ifdef TNB_WITH_KERNELS

#include "cuda/selftest.h"

namespace tnb {

std::string kernels() {
    return TNB_CUDA_ARCHS " (CUDA " TNB_CUDA_TOOLKIT ")";
}

std::string kernel_selftest(int device) {
    const int code = tnb_cuda_selftest(device);
    return code == 0 ? "" : tnb_cuda_error_name(code);
}

}  // namespace tnb

#else

namespace tnb {

std::string kernels() {
    return "none: built without a CUDA toolkit";
}

std::string kernel_selftest(int) {
    return kernels();
}

}  // namespace tnb

#endif
