// Torch's caching host allocator over the driver's page-locked memory.
//
// It rounds sizes to powers of two, as torch does by default; the rounding can be switched off (from torch 2.13 on).
#pragma once

#include <ATen/core/CachingHostAllocator.h>

namespace fake {

at::HostAllocator* host_allocator();
void round_host_memory_to_powers_of_two(bool rounding);

}  // namespace fake
