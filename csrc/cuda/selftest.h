#pragma once

// Proves the chain compiler, driver, kernel, copy, page-locked memory on one device. No torch header, C interface.
//
//     int code = tnb_cuda_selftest(0);
//     if (code != TNB_CUDA_OK) puts(tnb_cuda_error_name(code));
//
// Any thread may call any of these at any time, also while a graph is being captured. The calling thread keeps its
// current device and its last error, no other device is touched, and nothing stays allocated, whatever the outcome.

#ifdef __cplusplus
extern "C" {
#endif

enum {
    TNB_CUDA_OK = 0,
    TNB_CUDA_WRONG_BYTES = -1,  // every call succeeded, the bytes that arrived are not the kernel's
};

// A kernel fills device memory, a copy on a stream brings it into page-locked memory, the host compares.
// TNB_CUDA_OK, TNB_CUDA_WRONG_BYTES, or the cudaError_t of the first call that failed: 35 without a usable driver.
int tnb_cuda_selftest(int device);

// The name of a code of tnb_cuda_selftest; a static string.
const char* tnb_cuda_error_name(int code);

// The newest CUDA that the driver serves, as 1000 * major + 10 * minor; 0 without a driver.
int tnb_cuda_driver_version(void);

// The CUDA runtime inside this extension, in the same form.
int tnb_cuda_runtime_version(void);

#ifdef __cplusplus
}
#endif
