#include "driver.h"

#include "runtime.h"

namespace {

using namespace tnb::cuda;

// The answer of a call, without the error that it left.
int cleared(int code) {
    if (code != 0) runtime.clear_error();
    return code;
}

// Under confidential computing what was page-locked is managed memory: copies crawl, and a forked child that reads it
// dies.
int demand_page_locked(const void* address) {
    int locked = 0;
    const int code = tnb_cuda_is_page_locked(address, &locked);
    return code == 0 && locked == 0 ? CUDA_NOT_SUPPORTED : code;
}

}  // namespace

int tnb_cuda_stream_is_capturing(void* stream, int* status) {
    const int code = cleared(runtime.stream_is_capturing(stream, status));
    if (code != CUDA_CAPTURE_IMPLICIT) return code;
    // The legacy default stream, while a stream that it waits for is captured: work on it would end that capture.
    *status = 1;
    return 0;
}

int tnb_cuda_exchange_capture_mode(int* mode) {
    return cleared(runtime.exchange_capture_mode(mode));
}

int tnb_cuda_lock_pages(void* address, size_t bytes) {
    int code = cleared(runtime.lock_pages(address, bytes));
    if (code != 0) return code;
    code = demand_page_locked(address);
    if (code != 0) cleared(runtime.unlock_pages(address));
    return code;
}

int tnb_cuda_unlock_pages(void* address, size_t) {
    return cleared(runtime.unlock_pages(address));
}

int tnb_cuda_allocate_pages(void** address, size_t bytes) {
    int code = cleared(runtime.allocate_pages(address, bytes));
    if (code != 0) return code;
    code = demand_page_locked(*address);
    if (code != 0) cleared(runtime.free_pages(*address));
    return code;
}

int tnb_cuda_free_pages(void* address) {
    return cleared(runtime.free_pages(address));
}

int tnb_cuda_is_page_locked(const void* address, int* locked) {
    int kind = 0;
    const int code = cleared(runtime.kind_of_pointer(address, &kind));
    *locked = code == 0 && kind == CUDA_HOST_MEMORY ? 1 : 0;
    return code;
}

int tnb_cuda_device_address(void* host, int device, void** address) {
    int current = 0;
    const int code = cleared(runtime.current_device(&current));
    if (code != 0) return code;
    if (current != device) return CUDA_INVALID_DEVICE;
    return cleared(runtime.device_address(host, address));
}

int tnb_cuda_copy_to_host(void* destination, const void* source, size_t bytes, void* stream) {
    return cleared(runtime.copy_to_host(destination, source, bytes, stream));
}

const char* tnb_cuda_describe_error(int status) {
    return runtime.describe_error(status);
}

const char* tnb_cuda_why_no_kernels(int status) {
    switch (status) {
        case CUDA_INSUFFICIENT_DRIVER:
            return "there is no driver for the CUDA toolkit that compiled them, or an older one; update it";
        case CUDA_NEEDS_NEWER_DRIVER:
            return "the driver is too old for a call that they need; update it";
        case CUDA_NO_BINARY:
            return "they were compiled for other GPUs; build with a toolkit that knows this one";
        case CUDA_PTX_TOO_NEW:
            return "the driver is too old to compile them for this GPU; update it";
        default:
            return nullptr;
    }
}
