#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace tnb {

// How the tensors of a tree can come to the host; what `bench --tune` compares.
enum class CopyWay : std::uint8_t {
    each,    // by a copy of its own
    mapped,  // by the packer, straight into page-locked memory
    staged,  // by the packer into memory of the device, and from there by one copy
};

struct TimedCopies {
    double seconds = 0;  // from the first call of the driver until all have been seen to have arrived
    at::Tensor arrived;  // the bytes, those of each tensor from a multiple of block_alignment on
};

// Dense tensors of one dtype and device, whose stream has nothing left to do. The packer takes `blocks` blocks of
// `threads` threads at most. Throws where the device type has no such packer.
TimedCopies time_copies(const std::vector<at::Tensor>& tensors, CopyWay way, unsigned blocks, unsigned threads);

}  // namespace tnb
