#include "runtime.h"

#include <cuda_runtime_api.h>

namespace tnb::cuda {
namespace {

static_assert(CUDA_INVALID_VALUE == cudaErrorInvalidValue && CUDA_INVALID_DEVICE == cudaErrorInvalidDevice);

int current_device(int* device) {
    return cudaGetDevice(device);
}

int driver_version(int* version) {
    return cudaDriverGetVersion(version);
}

int launch(const void* kernel, unsigned blocks, unsigned threads, const void* argument, std::size_t, void* stream) {
    void* arguments[] = {const_cast<void*>(argument)};
    return cudaLaunchKernel(kernel, dim3(blocks), dim3(threads), arguments, 0, static_cast<cudaStream_t>(stream));
}

int clear_error() {
    return cudaGetLastError();
}

}  // namespace

Runtime runtime = {current_device, driver_version, launch, clear_error};

}  // namespace tnb::cuda
