#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace tnb {

// Which leaves of one device share a block of page-locked memory, and where in it each of them lies. Pure: sizes in,
// offsets out.
//
// Leaves share only with their like: of two in a block, rounding included, none is as large as two of the other. And
// there are few of them, so one array that is kept from a tree keeps a small multiple of its own size, never the tree.
// The order of the leaves decides who of the like ones share, and nothing else: blocks and bytes are as many for any.
struct PackPlan {
    // What one array can keep alive is this many of its like.
    static constexpr std::size_t leaves_per_block = 64;
    // Above this each leaf has a block of its own: what that costs the host is little against the microsecond that a
    // bus of 55 GB/s needs for so many bytes, and 64 of them would be more than 4 MiB. Measured by bench_tree on a Xeon
    // with the simulated accelerator, so not on a GPU: 0.1 to 0.3 µs a leaf, from 1 to 64 KiB. Up to what size one
    // launch is faster than copies has to be measured on a GPU; till then it is the same.
    static constexpr std::size_t largest_shared_leaf = std::size_t{64} << 10;

    struct Place {
        std::uint32_t block;
        std::size_t offset;  // a multiple of block_alignment
    };

    std::vector<std::size_t> blocks;  // the bytes of each
    std::vector<Place> places;        // of the leaves, in their order
};

// For leaves of so many bytes, none of them without any. `fresh`: none shares.
PackPlan plan_blocks(std::span<const std::size_t> leaves, bool fresh);

}  // namespace tnb
