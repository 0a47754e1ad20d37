#include "driver.h"

#include <cuda_runtime_api.h>

static_assert(cudaStreamCaptureModeGlobal == 0 && cudaStreamCaptureModeThreadLocal == 1 &&
              cudaStreamCaptureModeRelaxed == 2);

int tnb_cuda_stream_is_capturing(void* stream, int* status) {
    cudaStreamCaptureStatus answer = cudaStreamCaptureStatusNone;
    const cudaError_t code = cudaStreamIsCapturing(static_cast<cudaStream_t>(stream), &answer);
    // The legacy default stream, while a stream that it waits for is captured: work on it would end that capture.
    if (code == cudaErrorStreamCaptureImplicit) {
        cudaGetLastError();
        *status = 1;
        return 0;
    }
    *status = answer == cudaStreamCaptureStatusNone ? 0 : 1;
    return code;
}

int tnb_cuda_exchange_capture_mode(int* mode) {
    auto exchanged = static_cast<cudaStreamCaptureMode>(*mode);
    const cudaError_t code = cudaThreadExchangeStreamCaptureMode(&exchanged);
    *mode = exchanged;
    return code;
}

int tnb_cuda_lock_pages(void* address, size_t bytes) {
    return cudaHostRegister(address, bytes, cudaHostRegisterPortable);
}

int tnb_cuda_unlock_pages(void* address, size_t) {
    return cudaHostUnregister(address);
}

int tnb_cuda_copy_to_host(void* destination, const void* source, size_t bytes, void* stream) {
    return cudaMemcpyAsync(destination, source, bytes, cudaMemcpyDeviceToHost, static_cast<cudaStream_t>(stream));
}

const char* tnb_cuda_describe_error(int status) {
    return cudaGetErrorString(static_cast<cudaError_t>(status));
}

int tnb_cuda_clear_error() {
    return cudaGetLastError();
}
