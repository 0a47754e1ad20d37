#pragma once

// The kinds of copies as types: what one item is on either side, and what becomes of it. One for each row of CASTS.

#include <cstddef>
#include <cstdint>
#include <utility>

#include "cast.h"
#include "pack_arguments.h"

namespace tnb::cuda {

template <unsigned ITEM>
struct Plain {
    static constexpr bool IS_PLAIN = true;
    static constexpr unsigned SOURCE_BYTES = ITEM;
    static constexpr unsigned ITEM_BYTES = ITEM;
    static __device__ Bits<ITEM> convert(Bits<ITEM> item) { return item; }
};

template <std::size_t ROW>
struct Casting {
    static constexpr bool IS_PLAIN = false;
    static constexpr Element SOURCE = CASTS[ROW].source;
    static constexpr Element DESTINATION = CASTS[ROW].destination;
    static constexpr unsigned SOURCE_BYTES = item_size(SOURCE);
    static constexpr unsigned ITEM_BYTES = item_size(DESTINATION);
    static __device__ Bits<ITEM_BYTES> convert(Bits<SOURCE_BYTES> item) { return cast<SOURCE, DESTINATION>(item); }
};

template <typename Use, std::size_t... ROW>
__device__ void with_row(std::uint32_t row, const Use& use, std::index_sequence<ROW...>) {
    (void)((row == ROW && (use(Casting<ROW>{}), true)) || ...);
}

// Calls `use` with a Casting.
template <typename Use>
__device__ void with_cast(std::uint32_t kind, const Use& use) {
    with_row(kind - PLAIN_KINDS, use, std::make_index_sequence<CAST_COUNT>());
}

// Calls `use` with a Plain or a Casting.
template <typename Use>
__device__ void with_kind(std::uint32_t kind, const Use& use) {
    switch (kind) {
        case 0:
            return use(Plain<1>{});
        case 1:
            return use(Plain<2>{});
        case 2:
            return use(Plain<4>{});
        case 3:
            return use(Plain<8>{});
        case 4:
            return use(Plain<16>{});
        default:
            return with_cast(kind, use);
    }
}

// What a lane of a warp does of a leaf: rounds `first` to `last`; `tail` where these are its last.
struct Share {
    std::uint32_t first, last;
    bool tail;
    unsigned lane;
};

template <typename T>
__device__ const T* pointer(std::uint64_t address) {
    return reinterpret_cast<const T*>(address);
}

// What is written once, by one warp, and not read again by the device.
template <typename Word>
__device__ void store(std::uint64_t address, Word word) {
    __stcs(reinterpret_cast<Word*>(address), word);
}

}  // namespace tnb::cuda
