#include "runtime.h"

#include <cuda_runtime_api.h>

namespace tnb::cuda {
namespace {

static_assert(CUDA_INVALID_VALUE == cudaErrorInvalidValue && CUDA_INVALID_DEVICE == cudaErrorInvalidDevice);
static_assert(CUDA_INSUFFICIENT_DRIVER == cudaErrorInsufficientDriver);
static_assert(CUDA_NEEDS_NEWER_DRIVER == cudaErrorCallRequiresNewerDriver);
static_assert(CUDA_NO_BINARY == cudaErrorNoKernelImageForDevice && CUDA_PTX_TOO_NEW == cudaErrorUnsupportedPtxVersion);
static_assert(CUDA_NOT_SUPPORTED == cudaErrorNotSupported && CUDA_CAPTURE_IMPLICIT == cudaErrorStreamCaptureImplicit);
static_assert(CUDA_HOST_MEMORY == cudaMemoryTypeHost && cudaStreamCaptureStatusNone == 0);
static_assert(cudaStreamCaptureModeGlobal == 0 && cudaStreamCaptureModeThreadLocal == 1 &&
              cudaStreamCaptureModeRelaxed == 2);

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

int stream_is_capturing(void* stream, int* status) {
    cudaStreamCaptureStatus answer = cudaStreamCaptureStatusNone;
    const cudaError_t code = cudaStreamIsCapturing(static_cast<cudaStream_t>(stream), &answer);
    *status = answer;
    return code;
}

int exchange_capture_mode(int* mode) {
    auto exchanged = static_cast<cudaStreamCaptureMode>(*mode);
    const cudaError_t code = cudaThreadExchangeStreamCaptureMode(&exchanged);
    *mode = exchanged;
    return code;
}

int lock_pages(void* address, std::size_t bytes) {
    return cudaHostRegister(address, bytes, cudaHostRegisterPortable | cudaHostRegisterMapped);
}

int unlock_pages(void* address) {
    return cudaHostUnregister(address);
}

int allocate_pages(void** address, std::size_t bytes) {
    return cudaHostAlloc(address, bytes, cudaHostAllocPortable | cudaHostAllocMapped);
}

int free_pages(void* address) {
    return cudaFreeHost(address);
}

int kind_of_pointer(const void* address, int* kind) {
    cudaPointerAttributes attributes{};
    const cudaError_t code = cudaPointerGetAttributes(&attributes, address);
    *kind = attributes.type;
    return code;
}

int device_address(void* host, void** address) {
    return cudaHostGetDevicePointer(address, host, 0);
}

int copy_to_host(void* destination, const void* source, std::size_t bytes, void* stream) {
    return cudaMemcpyAsync(destination, source, bytes, cudaMemcpyDeviceToHost, static_cast<cudaStream_t>(stream));
}

const char* describe_error(int code) {
    return cudaGetErrorString(static_cast<cudaError_t>(code));
}

int clear_error() {
    return cudaGetLastError();
}

}  // namespace

Runtime runtime = {current_device, driver_version, launch,         stream_is_capturing, exchange_capture_mode,
                   lock_pages,     unlock_pages,   allocate_pages, free_pages,          kind_of_pointer,
                   device_address, copy_to_host,   describe_error, clear_error};

}  // namespace tnb::cuda
