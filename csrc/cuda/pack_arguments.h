#pragma once

// What a launch of the pack kernel gets: a record for each leaf, and where each warp begins. Written by launch_plan.cu,
// read by pack.cu. Plain C++, which nvcc takes for the device too.
//
// The work of a launch is counted in rounds: one round is what a warp copies of one leaf with four 16-byte stores a
// lane, 2 KiB between two multiples of that many bytes from a line of the destination on. Each warp does an even share
// of all rounds, one after the other: a small leaf is one warp's, a large one is shared by many.

#include <cstddef>
#include <cstdint>

#include "../gather.h"
#include "tuning.h"

namespace tnb::cuda {

inline constexpr unsigned WARP = 32;
inline constexpr unsigned WARPS_A_BLOCK = THREADS / WARP;
inline constexpr unsigned MAX_WARPS = MAX_BLOCKS * WARPS_A_BLOCK;
inline constexpr unsigned UNIT_BYTES = 16;                  // one store
inline constexpr unsigned LINE_BYTES = 128;                 // what the memory system transfers
inline constexpr unsigned STORE_BYTES = WARP * UNIT_BYTES;  // by a warp at once
inline constexpr unsigned ROUND_BYTES = UNITS_IN_FLIGHT * STORE_BYTES;

// The largest arguments of a launch, in bytes: since CUDA 12.1, for toolkit and driver, and before.
inline constexpr unsigned SMALL_ARGUMENTS = 4000;
inline constexpr int LARGE_ARGUMENTS_SINCE = 12010;
#if defined(CUDART_VERSION) && CUDART_VERSION < 12010
inline constexpr unsigned LARGE_ARGUMENTS = SMALL_ARGUMENTS;
#else
inline constexpr unsigned LARGE_ARGUMENTS = 32764;
#endif
inline constexpr unsigned SLOT_BYTES = 16;
inline constexpr unsigned SLOT_WORDS = SLOT_BYTES / 4;

// One argument, by value. That of a smaller kernel is the beginning of a larger one's.
template <unsigned BYTES>
struct alignas(SLOT_BYTES) Arguments {
    static constexpr unsigned HEAD = 16 + MAX_WARPS * 6;
    static constexpr unsigned SLOTS = (BYTES - HEAD) / SLOT_BYTES;

    std::uint64_t base;              // short records count their destinations from here
    std::uint32_t rounds;            // of all leaves
    std::uint32_t warps;             // that take part
    std::uint32_t round[MAX_WARPS];  // of the leaf with which a warp begins: its first one
    std::uint16_t slot[MAX_WARPS];   // where that leaf's record is
    std::uint32_t words[SLOTS * SLOT_WORDS];
};

// A short record is one slot: the source; then the offset of the destination from `base` and the bytes, of a dense leaf
// that is copied as it is. A long one has two slots and its steps: the source; what follows here; the destination; the
// number of items; then the sizes, the source's strides and, if it is STRIDED, the destination's, each `rank` numbers
// of 32 bits, or 64 if it is WIDE. Of rank 0 is what is contiguous on both sides.
inline constexpr unsigned OFFSET_BITS = 40;
inline constexpr unsigned LENGTH_BITS = 23;
inline constexpr std::uint64_t LONG = std::uint64_t{1} << 63;
inline constexpr std::uint64_t WIDE = std::uint64_t{1} << 32;
inline constexpr std::uint64_t STRIDED = std::uint64_t{1} << 33;
inline constexpr unsigned LONG_SLOTS = 2;

// The kinds of copies: items of 1, 2, 4, 8 or 16 bytes as they are, then the casts of CASTS.
inline constexpr unsigned PLAIN_KINDS = 5;

// A record, read.
struct Leaf {
    std::uint64_t source, destination;
    std::uint64_t items;
    std::uint32_t kind;
    std::uint32_t item_shift;  // an item of the destination has 1 << item_shift bytes
    std::uint32_t rank;
    std::uint32_t slots;  // of its record
    bool wide, strided;
};

TNB_HOST_AND_DEVICE inline std::uint64_t two_words(const std::uint32_t* words, unsigned first) {
    return words[first] | static_cast<std::uint64_t>(words[first + 1]) << 32;
}

TNB_HOST_AND_DEVICE inline Leaf read_record(const std::uint32_t* words, std::uint64_t base) {
    Leaf leaf{};
    leaf.source = two_words(words, 0);
    const std::uint64_t rest = two_words(words, 2);
    if ((rest & LONG) == 0) {
        leaf.destination = base + (rest & ((std::uint64_t{1} << OFFSET_BITS) - 1));
        leaf.items = rest >> OFFSET_BITS;
        leaf.slots = 1;
        return leaf;
    }
    leaf.kind = static_cast<std::uint32_t>(rest & 0xff);
    leaf.rank = static_cast<std::uint32_t>(rest >> 8 & 0xff);
    leaf.item_shift = static_cast<std::uint32_t>(rest >> 16 & 0xff);
    leaf.slots = static_cast<std::uint32_t>(rest >> 24 & 0xff);
    leaf.wide = (rest & WIDE) != 0;
    leaf.strided = (rest & STRIDED) != 0;
    leaf.destination = two_words(words, 4);
    leaf.items = two_words(words, 6);
    return leaf;
}

// From the line in which its destination begins, if that is dense; by items otherwise.
TNB_HOST_AND_DEVICE inline std::uint32_t rounds_of(const Leaf& leaf) {
    const std::uint64_t before = leaf.strided ? 0 : leaf.destination % LINE_BYTES;
    return static_cast<std::uint32_t>((before + (leaf.items << leaf.item_shift) + ROUND_BYTES - 1) / ROUND_BYTES);
}

TNB_HOST_AND_DEVICE inline std::uint64_t bytes_of(std::uint32_t rounds) {
    return std::uint64_t{rounds} * ROUND_BYTES;
}

// How many of `rounds` warp `warp` does.
TNB_HOST_AND_DEVICE inline std::uint32_t share(std::uint32_t rounds, std::uint32_t warps, std::uint32_t warp) {
    return rounds / warps + (warp < rounds % warps ? 1 : 0);
}

static_assert(sizeof(Arguments<LARGE_ARGUMENTS>) <= LARGE_ARGUMENTS);
static_assert(sizeof(Arguments<SMALL_ARGUMENTS>) <= SMALL_ARGUMENTS);
// The longest record, 64-bit steps of a strided destination of the highest rank, fits into either.
static_assert(LONG_SLOTS + (MAX_RANK + 1) * 3 * 8 / SLOT_BYTES + 1 <= Arguments<SMALL_ARGUMENTS>::SLOTS);
static_assert(offsetof(Arguments<SMALL_ARGUMENTS>, words) == Arguments<SMALL_ARGUMENTS>::HEAD);

}  // namespace tnb::cuda
