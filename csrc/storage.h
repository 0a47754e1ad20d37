#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace tnb {

// Whether the storage of a strided tensor has the bytes that its sizes, strides and offset reach. Sharded training
// frees storages under tensors that live on, by resizing them to nothing.
inline bool storage_reaches(const at::Tensor& tensor) {
    const std::int64_t numel = tensor.numel();
    if (numel == 0) return true;
    std::int64_t last = tensor.storage_offset();
    if (tensor.is_contiguous()) {
        last += numel - 1;
    } else {
        const auto sizes = tensor.sizes();
        const auto strides = tensor.strides();
        for (std::size_t dim = 0; dim < sizes.size(); ++dim) last += (sizes[dim] - 1) * strides[dim];
    }
    const auto bytes = (static_cast<std::size_t>(last) + 1) * tensor.element_size();
    return bytes <= tensor.unsafeGetTensorImpl()->unsafe_storage().nbytes();
}

}  // namespace tnb
