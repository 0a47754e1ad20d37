#pragma once

// What the CUDA runtime inside this extension does for csrc/device.h, which says what each entry means. No torch
// header, C interface; the answers are cudaError_t, 0 for success, and no failed one leaves the thread's last error
// behind, which the next launch of anybody would report. What packs is in pack.h.

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

int tnb_cuda_stream_is_capturing(void* stream, int* status);
int tnb_cuda_exchange_capture_mode(int* mode);
int tnb_cuda_lock_pages(void* address, size_t bytes);
int tnb_cuda_unlock_pages(void* address, size_t bytes);
int tnb_cuda_allocate_pages(void** address, size_t bytes);
int tnb_cuda_free_pages(void* address);
int tnb_cuda_is_page_locked(const void* address, int* locked);
int tnb_cuda_device_address(void* host, int device, void** address);
int tnb_cuda_copy_to_host(void* destination, const void* source, size_t bytes, void* stream);
const char* tnb_cuda_describe_error(int status);
const char* tnb_cuda_why_no_kernels(int status);

#ifdef __cplusplus
}
#endif
