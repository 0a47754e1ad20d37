#pragma once

// The host's half of the pack kernel: leaves become records, their work the shares of warps. Pure: it calls no driver.

#include <cstddef>

#include "pack.h"
#include "pack_arguments.h"

namespace tnb::cuda {

using LargestArguments = Arguments<LARGE_ARGUMENTS>;

// What one launch is for.
struct Launch {
    std::size_t leaves = 0;  // taken from the front of what was given
    unsigned slots = 0;      // used by their records; 0: nothing to copy
    unsigned blocks = 0;
};

// Whether the kernel can copy it: the types, the rank, the alignment of what is cast.
bool is_packable(const tnb_pack_leaf& leaf);

// What a launch may take.
struct Limits {
    unsigned slots;  // enough for any one leaf
    unsigned blocks;
    unsigned warps_a_block;
};

// As many of the packable leaves as go into one launch.
Launch describe(const tnb_pack_leaf* leaves, std::size_t count, const Limits& limits, LargestArguments& arguments);

}  // namespace tnb::cuda
