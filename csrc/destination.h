#pragma once

#include <ATen/core/TensorBase.h>

#include <memory>

#include "host_block.h"

namespace tnb {

// Where the caller wants the values of a leaf: the memory of an array of his.
struct Destination {
    char* data = nullptr;
    std::size_t bytes = 0;        // of the values, gaps not counted
    at::DimVector strides;        // in elements
    bool dense = false;           // without gaps, in any order of dimensions
    HostBlock block;              // a lease, where the memory is a pool's
    std::shared_ptr<void> owner;  // keeps the array alive; may be dropped by any thread

    bool is_written_by(const c10::Device& device) const noexcept {
        return dense && block && block.device_type() == device.type();
    }
};

}  // namespace tnb
