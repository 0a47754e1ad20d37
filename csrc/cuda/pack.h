#pragma once

// Copies many tensors from a device to the host by one launch, or by as few as it takes: what csrc/device.h calls the
// packer of a device type. No torch header, C interface.
//
//     tnb_pack_leaf leaves[2] = {...};
//     int error = tnb_cuda_pack(leaves, 2, 0, stream);  // enqueued; the values are there when the stream is past it

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// One tensor: where its values are, and where they go. Strides are in elements and never negative; types are values of
// c10::ScalarType. Of the source any strides, those of 0 and those that overlap too. The destination is dense, in the
// order of the source's dimensions, so both are walked along the same one: where the strides are equal on both sides
// and the types too, that is one run of bytes. Dimensions of one element have strides that mean nothing. No size is 0.
// The arrays live until the call has returned; the memory, until the stream is past it.
typedef struct tnb_pack_leaf {
    const void* source;  // on the device
    void* destination;   // page-locked memory of the host, at its address for the device
    const int64_t* sizes;
    const int64_t* source_strides;
    const int64_t* destination_strides;
    int32_t rank;
    int8_t source_type;
    int8_t destination_type;
} tnb_pack_leaf;

#ifdef __cplusplus
}
#endif
