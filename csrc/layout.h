#pragma once

#include <ATen/core/TensorBase.h>
#include <c10/core/ScalarType.h>

#include <cstdint>

namespace tnb {

enum class Route : std::uint8_t {
    view,   // the array shares the tensor's memory
    host,   // the values are on the host, or can only be had there: torch makes them plain, the array shares the result
    empty,  // no element: there is nothing to copy
    dense,  // one linear copy
    gather,  // made dense on the device first, and cast, then as dense
};

// What decides about the route of one leaf, beside its sizes and strides.
struct LeafTraits {
    bool on_host;       // the tensor lies on the CPU
    bool asynchronous;  // its device type can copy to the host behind our back
    bool lazy_bits;     // conj or neg: the values are not what memory holds
    bool fresh;         // the caller asked for memory of its own
    bool cast;          // the caller asked for another dtype than it has
    bool dense;         // non-overlapping and dense, in any order of dimensions
};

// How one leaf comes to the host. Pure: no device is touched.
struct Layout {
    Route route;
    c10::ScalarType dtype;  // of the destination, as what follows
    std::size_t bytes;
    at::DimVector strides;   // in elements, as `.cpu()` would give them
    bool reordered = false;  // it has its dimensions in an order of its own
};

// `dtype` is that of the destination.
Layout plan(at::IntArrayRef sizes, at::IntArrayRef strides, c10::ScalarType dtype, const LeafTraits& traits);

// The same for a destination that is there already, and dense.
void lay_out_as(at::IntArrayRef strides, at::IntArrayRef sizes, Layout& layout);

// Slabs of a destination along its outermost dimension, each at most `limit` bytes or one slice.
struct Slabs {
    std::int64_t dim;
    std::int64_t slices;  // per slab; the last one may have fewer
};

Slabs slabs(at::IntArrayRef sizes, at::IntArrayRef dense_strides, std::size_t itemsize, std::size_t limit);

}  // namespace tnb
