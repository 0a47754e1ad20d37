#pragma once

// The index arithmetic of a copy from one strided layout to another. Plain C++, which a compiler for GPUs takes too.
//
//     Gather gather = make_gather(rank, sizes, source_strides, destination_strides, itemsize);  // in bytes
//     const std::int64_t unit = widest_unit(gather, source_address, destination_address);
//     count_in(gather, unit);  // now the items are of `unit` bytes
//     locate(items, gather.rank, sizes, strides);  // indices become offsets

#include <cstdint>
#include <limits>

#ifdef __CUDACC__
#define TNB_HOST_AND_DEVICE __host__ __device__
#else
#define TNB_HOST_AND_DEVICE
#endif

namespace tnb {

inline constexpr int MAX_RANK = 64;  // NumPy's

struct Dimension {
    std::int64_t size;    // above 1
    std::int64_t source;  // strides
    std::int64_t destination;
};

// Dimensions in the order of the destination's strides, the innermost first; none that could be one with its neighbour.
struct Gather {
    int rank = 0;
    Dimension dims[MAX_RANK + 1];  // one more for the bytes of an item
};

inline void insert(Gather& gather, const Dimension& added) {
    int at = gather.rank++;
    for (; at > 0 && gather.dims[at - 1].destination > added.destination; --at) gather.dims[at] = gather.dims[at - 1];
    gather.dims[at] = added;
}

// Dimensions that run on from one another, on both sides, become one.
inline void collapse(Gather& gather) {
    int kept = 0;
    for (int dim = 1; dim < gather.rank; ++dim) {
        Dimension& inner = gather.dims[kept];
        const Dimension& outer = gather.dims[dim];
        if (outer.source == inner.size * inner.source && outer.destination == inner.size * inner.destination) {
            inner.size *= outer.size;
        } else {
            gather.dims[++kept] = outer;
        }
    }
    if (gather.rank > 0) gather.rank = kept + 1;
}

// Of a layout without empty dimensions, whose strides are in items of `units` each: counted in units.
inline Gather make_gather(int rank, const std::int64_t* sizes, const std::int64_t* source,
                          const std::int64_t* destination, std::int64_t units) {
    Gather gather;
    if (units > 1) insert(gather, {units, 1, 1});
    for (int dim = rank - 1; dim >= 0; --dim) {
        if (sizes[dim] > 1) insert(gather, {sizes[dim], source[dim] * units, destination[dim] * units});
    }
    collapse(gather);
    return gather;
}

inline bool is_dense(const Gather& gather) {
    return gather.rank == 0 || (gather.rank == 1 && gather.dims[0].source == 1 && gather.dims[0].destination == 1);
}

inline bool has_dense_destination(const Gather& gather) {
    std::int64_t expected = 1;
    for (int dim = 0; dim < gather.rank; ++dim) {
        if (gather.dims[dim].destination != expected) return false;
        expected *= gather.dims[dim].size;
    }
    return true;
}

inline std::int64_t count(const Gather& gather) {
    std::int64_t result = 1;
    for (int dim = 0; dim < gather.rank; ++dim) result *= gather.dims[dim].size;
    return result;
}

// The widest power of two, 16 at most, of whose multiples everything consists that is counted in bytes: both addresses,
// the rows that are contiguous on both sides, and the steps from one to the next.
inline std::int64_t widest_unit(const Gather& gather, std::uint64_t source, std::uint64_t destination) {
    if (gather.rank == 0 || gather.dims[0].source != 1 || gather.dims[0].destination != 1) return 1;
    std::uint64_t all = source | destination | static_cast<std::uint64_t>(gather.dims[0].size) | 16;
    for (int dim = 1; dim < gather.rank; ++dim) {
        all |= static_cast<std::uint64_t>(gather.dims[dim].source | gather.dims[dim].destination);
    }
    return static_cast<std::int64_t>(all & -all);
}

// From bytes to units that widest_unit() allows.
inline void count_in(Gather& gather, std::int64_t unit) {
    if (unit == 1) return;
    gather.dims[0].size /= unit;
    for (int dim = 1; dim < gather.rank; ++dim) {
        gather.dims[dim].source /= unit;
        gather.dims[dim].destination /= unit;
    }
    if (gather.dims[0].size > 1) return;
    for (int dim = 1; dim < gather.rank; ++dim) gather.dims[dim - 1] = gather.dims[dim];
    --gather.rank;
}

// Whether 32 bits hold every index and every offset, with room for a step beyond the end.
inline bool fits_32_bits(const Gather& gather) {
    std::uint64_t source = 0, destination = 0;
    for (int dim = 0; dim < gather.rank; ++dim) {
        const auto steps = static_cast<std::uint64_t>(gather.dims[dim].size - 1);
        source += steps * static_cast<std::uint64_t>(gather.dims[dim].source);
        destination += steps * static_cast<std::uint64_t>(gather.dims[dim].destination);
    }
    constexpr std::uint64_t limit = std::numeric_limits<std::int32_t>::max();
    return static_cast<std::uint64_t>(count(gather)) <= limit && source <= limit && destination <= limit;
}

TNB_HOST_AND_DEVICE inline std::uint32_t quotient(std::uint32_t dividend, std::uint32_t divisor) {
    return dividend / divisor;
}

// Bit by bit where 32 are not enough, which is rare: a device divides 64 bits by a function call, for which all of a
// kernel would have to keep registers free.
TNB_HOST_AND_DEVICE inline std::uint64_t quotient(std::uint64_t dividend, std::uint64_t divisor) {
    if ((dividend | divisor) >> 32 == 0) {
        return quotient(static_cast<std::uint32_t>(dividend), static_cast<std::uint32_t>(divisor));
    }
    std::uint64_t result = 0, rest = 0;
    for (int bit = 63; bit >= 0; --bit) {
        rest = rest << 1 | (dividend >> bit & 1);
        result <<= 1;
        if (rest >= divisor) {
            rest -= divisor;
            ++result;
        }
    }
    return result;
}

// Indices become the offsets of the items, `rank` being 1 at least. Sizes and strides are anything with an operator[]
// that gives Index; several at once, since a device divides and waits for them side by side.
template <typename Index, unsigned N, typename Sizes, typename Strides>
TNB_HOST_AND_DEVICE inline void locate(Index (&items)[N], unsigned rank, const Sizes& sizes, const Strides& strides) {
    Index offsets[N] = {};
    for (unsigned dim = 0; dim + 1 < rank; ++dim) {
        const Index size = sizes[dim], stride = strides[dim];
        for (unsigned next = 0; next < N; ++next) {
            const Index outer = quotient(items[next], size);
            offsets[next] += (items[next] - outer * size) * stride;
            items[next] = outer;
        }
    }
    const Index stride = strides[rank - 1];
    for (unsigned next = 0; next < N; ++next) items[next] = offsets[next] + items[next] * stride;
}

}  // namespace tnb
