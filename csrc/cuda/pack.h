#pragma once

// Gathers, casts and stores the leaves of a tree by one kernel, or as few launches as its arguments allow. No torch
// header, C interface.
//
//     if (tnb_cuda_packs(leaf.source_type, leaf.destination_type)) { ... }
//     int code = tnb_cuda_pack(leaves, count, device, stream);
//     if (code != 0) puts(tnb_cuda_error_name(code));
//
// Exactly the bytes of the leaves are read, and exactly those of their destinations written: no padding, no gap between
// strided items. A leaf is written as 16-byte stores, each warp whole 128-byte lines, where its destination is dense.
// Nothing is allocated, nothing is waited for, and no record of the leaves has to live longer than the call.

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tnb_pack_leaf {
    const void* source;
    void* destination;  // as the device sees it: mapped page-locked memory, or device memory
    const int64_t* sizes;
    const int64_t* source_strides;       // in elements, none negative; 0 where it is expanded
    const int64_t* destination_strides;  // in elements, none negative; two items never share an address
    int32_t rank;                        // 64 at most
    int8_t source_type;                  // c10::ScalarType
    int8_t destination_type;
} tnb_pack_leaf;

// Whether the kernel copies the one type to the other: each type to itself where NumPy has it, and the casts of
// element_types.h. Everything else is torch's.
int tnb_cuda_packs(int source_type, int destination_type);

// Enqueues all leaves on `stream`, a stream of `device`, which the caller has made current. Types without elements take
// no part. The answer is a cudaError_t, 0 for success, and the thread's last error stays what it was.
//   1 (invalid value): a leaf that the kernel does not copy: its types, its rank, or a cast from or to an address that
//     is no multiple of its item. 101 (invalid device): another device is current. In both cases nothing was enqueued.
//   Any other: the launch failed; launches before it may be under way, as where a copy among several fails. 35, 36, 209
//     and 222 (no driver, an old one, no binary for this GPU, PTX too new) come back from the first launch.
int tnb_cuda_pack(const tnb_pack_leaf* leaves, size_t count, int device, void* stream);

// Whether so many bytes, of leaves that lie side by side on the host, are better packed in device memory and brought
// over by one copy: tuning.h has the least of them.
int tnb_cuda_stages(size_t bytes);

// The same as tnb_cuda_pack() in at most `blocks` blocks of `threads` threads, for whoever measures what tuning.h
// should have. 1 where that is more warps in all, or more threads a block, than tuning.h has, or no whole warp.
int tnb_cuda_pack_in_shape(const tnb_pack_leaf* leaves, size_t count, int device, void* stream, unsigned blocks,
                           unsigned threads);

#ifdef __cplusplus
}
#endif
