// A driver's plain C interface, for code that knows no torch.
//
// Each call answers 0 for success, else 1, and leaves the reason as the thread's last error, which the next launch
// reports unless it is taken first. Events demand that their device is the thread's current one, as a driver's do.
// A stream is what torch's Stream::native_handle() gives.
#pragma once

#include <stddef.h>

#include "pack.h"

#define FAKE_API extern "C" __attribute__((visibility("default")))

// The thread's last error in words, which stay until its next call; `status` is what that answered.
FAKE_API const char* fake_describe_error(int status);
// Forgets the thread's last error.
FAKE_API int fake_clear_last_error(void);

FAKE_API int fake_lock_pages(void* address, size_t bytes);
FAKE_API int fake_unlock_pages(void* address, size_t bytes);
FAKE_API int fake_allocate_pages(void** address, size_t bytes);
FAKE_API int fake_free_pages(void* address);
// *locked becomes 0 or 1.
FAKE_API int fake_is_page_locked(const void* address, int* locked);

// The thread's current device, as the driver has it.
FAKE_API int fake_current_device(int* device);

FAKE_API int fake_event_create(void** event);
FAKE_API int fake_event_record(void* event, void* stream);
// *passed becomes 0 or 1.
FAKE_API int fake_event_query(void* event, int* passed);
FAKE_API int fake_event_synchronize(void* event);
FAKE_API int fake_event_destroy(void* event);

// A copy of bytes from device memory to host memory, enqueued on the stream. As any call, it makes a context on the
// thread's current device, whatever the stream's is.
FAKE_API int fake_copy_to_host(void* to, const void* from, size_t bytes, void* stream);

// *status becomes 0 for none, 1 for an active and 2 for an invalidated capture.
FAKE_API int fake_stream_is_capturing(void* stream, int* status);
// *mode, which is 0 for global, 1 for thread-local and 2 for relaxed, is exchanged with the thread's.
FAKE_API int fake_exchange_capture_mode(int* mode);

// Runs function(argument) on the stream's worker. What the device knows by an address is reached there at
// fake_worker_address() only: its own memory, and page-locked memory; null for any other address.
FAKE_API int fake_launch(void (*function)(void*), void* argument, void* stream);
FAKE_API void* fake_worker_address(const void* device_address);
// Poisons page-locked memory, at its address for the device, that a kernel is going to write on the stream.
FAKE_API int fake_poison(void* device_address, size_t bytes, void* stream);

// A kernel that packs tensors, and the addresses that it takes for page-locked memory; see csrc/cuda/pack.h.
FAKE_API int fake_packs(int source_type, int destination_type);
FAKE_API int fake_pack(const tnb_pack_leaf* leaves, size_t count, int device, void* stream);
FAKE_API int fake_device_address(void* host, int device, void** address);
