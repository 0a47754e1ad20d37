// Kernels: work that is launched on a stream, and a simple one that packs many tensors into host memory.
//
// A kernel reaches device memory at worker_address() only. Page-locked memory it sees at an address of its own, as a
// driver's mapping may have it: device_address() says where. What a kernel is to write there is poisoned at its launch,
// as the destination of a copy is.
#pragma once

#include <cstddef>
#include <functional>

#include "pack.h"
#include "stream.h"

namespace fake {

void launch(Stream& stream, std::function<void()> kernel);

void* device_address(void* page_locked);
// The other way; null where the device sees no page-locked memory.
void* mapped_host_address(const void* seen_by_device);

// What csrc/cuda/pack.h describes, for values that keep their type; complex128 is declined.
bool packs(int source_type, int destination_type);
void pack(const tnb_pack_leaf* leaves, size_t count, Stream& stream);

}  // namespace fake
