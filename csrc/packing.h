#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <vector>

#include "host_block.h"
#include "layout.h"

namespace tnb {

class CopyLane;

// A leaf on its way from a device to page-locked memory, in one of the blocks that its flight holds.
struct PooledLeaf {
    const at::Tensor* source;
    const Layout* layout;
    std::size_t leaf;  // its index in the submission
    char* data;
    std::size_t block;
};

// Enqueue the copies of all leaves of one device on its lane, whose device is the current one: the small ones by the
// packer of the device type, where there is one and it takes them, the others one by one.
void enqueue_pooled(const std::vector<PooledLeaf>& leaves, const std::vector<HostBlock>& blocks, CopyLane& lane);

}  // namespace tnb
