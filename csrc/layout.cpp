#include "layout.h"

#include <ATen/ExpandUtils.h>
#include <c10/util/accumulate.h>

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace tnb {
namespace {

Route route_of(std::int64_t numel, const LeafTraits& traits) {
    if (traits.on_host) return traits.lazy_bits || traits.fresh || traits.cast ? Route::host : Route::view;
    if (!traits.asynchronous) return Route::host;
    if (numel == 0) return Route::empty;
    return traits.dense && !traits.lazy_bits && !traits.cast ? Route::dense : Route::gather;
}

bool is_copied(Route route) {
    return route == Route::dense || route == Route::gather;
}

}  // namespace

Layout plan(at::IntArrayRef sizes, at::IntArrayRef strides, c10::ScalarType dtype, const LeafTraits& traits) {
    const std::size_t itemsize = c10::elementSize(dtype);
    const std::int64_t numel = c10::multiply_integers(sizes);
    Layout layout{route_of(numel, traits), dtype, static_cast<std::size_t>(numel) * itemsize, {}, false};
    // An expanded tensor may have more elements than there are addresses.
    if (static_cast<std::size_t>(numel) > PTRDIFF_MAX / itemsize && is_copied(layout.route)) {
        throw std::length_error("expected a tensor whose values fit into memory, got " + std::to_string(numel) +
                                " elements of " + std::to_string(itemsize) + " bytes; convert a part of it");
    }
    if (layout.route == Route::view || traits.dense) {
        layout.strides.assign(strides.begin(), strides.end());
    } else {
        const auto dense = at::infer_dense_strides(sizes, strides);
        layout.strides.assign(dense.begin(), dense.end());
    }
    return layout;
}

void lay_out_as(at::IntArrayRef strides, at::IntArrayRef sizes, Layout& layout) {
    if (layout.route != Route::dense && layout.route != Route::gather) return;
    for (std::size_t dim = 0; dim < sizes.size(); ++dim) {
        if (sizes[dim] > 1 && strides[dim] != layout.strides[dim]) layout.reordered = true;
    }
    if (layout.reordered) layout.route = Route::gather;
    layout.strides.assign(strides.begin(), strides.end());
}

Slabs slabs(at::IntArrayRef sizes, at::IntArrayRef dense_strides, std::size_t itemsize, std::size_t limit) {
    Slabs result{0, 1};
    std::int64_t outermost = 0;
    for (std::size_t dim = 0; dim < sizes.size(); ++dim) {
        if (sizes[dim] > 1 && dense_strides[dim] > outermost) {
            outermost = dense_strides[dim];
            result.dim = static_cast<std::int64_t>(dim);
        }
    }
    const std::size_t slice = static_cast<std::size_t>(outermost) * itemsize;
    result.slices = slice == 0 ? 1 : static_cast<std::int64_t>(std::max<std::size_t>(1, limit / slice));
    return result;
}

}  // namespace tnb
