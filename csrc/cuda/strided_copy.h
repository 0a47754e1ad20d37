#pragma once

// Device code: leaves whose items lie where strides put them, on one side or both, copied as they are or cast.

#include "kinds.h"

namespace tnb::cuda {

// The numbers of one kind in a record: sizes, or the strides of a side.
template <typename Index>
struct Steps {
    const std::uint32_t* words;

    __device__ Index operator[](unsigned dim) const {
        if constexpr (sizeof(Index) == 8) {
            return two_words(words, 2 * dim);
        } else {
            return words[dim];
        }
    }
};

// How far indices go, and how many items a lane copies side by side: 64-bit divisions take the registers of more.
struct Narrow {
    using Index = std::uint32_t;
    static constexpr unsigned ITEMS = UNITS_IN_FLIGHT;
};

struct Wide {
    using Index = std::uint64_t;
    static constexpr unsigned ITEMS = 1;
};

// What one lane copies side by side: items of a leaf by their indices, then by their offsets.
template <typename Width>
struct Items {
    typename Width::Index at[Width::ITEMS];
    bool inside[Width::ITEMS];  // of the leaf
};

__device__ inline void put(uint4& word, std::uint32_t item, unsigned shift) {
    word.x |= item << shift;
}

__device__ inline void put(uint4& word, uint2 item, unsigned) {
    word.x = item.x;
    word.y = item.y;
}

__device__ inline void put(uint4& word, uint4 item, unsigned) {
    word = item;
}

template <typename Width>
struct ReadItems {
    std::uint64_t source;
    const Items<Width>& items;  // by their offsets
    unsigned shift;             // in their words
    uint4 (&words)[Width::ITEMS];

    template <typename Kind>
    __device__ void operator()(Kind) const {
        using Source = Bits<Kind::SOURCE_BYTES>;
        Source read[Width::ITEMS] = {};
#pragma unroll
        for (unsigned next = 0; next < Width::ITEMS; ++next) {
            if (items.inside[next]) read[next] = __ldg(pointer<Source>(source) + items.at[next]);
        }
#pragma unroll
        for (unsigned next = 0; next < Width::ITEMS; ++next) put(words[next], Kind::convert(read[next]), shift);
    }
};

__device__ inline void store_word(std::uint64_t address, const uint4& word, unsigned bytes) {
    switch (bytes) {
        case 1:
            return store(address, static_cast<std::uint8_t>(word.x));
        case 2:
            return store(address, static_cast<std::uint16_t>(word.x));
        case 4:
            return store(address, word.x);
        case 8:
            return store(address, make_uint2(word.x, word.y));
        default:
            return store(address, word);
    }
}

enum Side : unsigned { SOURCE = 1, DESTINATION = 2 };

// A lane makes words of four bytes at least, so that a warp stores whole lines where the destination is dense.
// Positions are bytes of a dense destination, counted from the beginning of its first line.
template <typename Width>
struct Strided {
    using Index = typename Width::Index;
    static constexpr unsigned ITEMS = Width::ITEMS;
    static constexpr unsigned INDEX_WORDS = sizeof(Index) / sizeof(std::uint32_t);

    const Leaf& leaf;
    const std::uint32_t* steps;
    unsigned item, word;  // bytes
    std::uint64_t begin, end;

    __device__ Items<Width> items_at(std::uint64_t position, Side side) const {
        Items<Width> items;
#pragma unroll
        for (unsigned next = 0; next < ITEMS; ++next) {
            const std::uint64_t here = position + next * WARP * word;
            items.inside[next] = here >= begin && here < end;
            items.at[next] = items.inside[next] ? static_cast<Index>((here - begin) >> leaf.item_shift) : 0;
        }
        locate(items.at, leaf.rank, Steps<Index>{steps}, Steps<Index>{steps + side * leaf.rank * INDEX_WORDS});
        return items;
    }

    __device__ void read(std::uint64_t position, uint4 (&words)[ITEMS]) const {
#pragma unroll 1
        for (unsigned within = 0; within < word; within += item) {
            const Items<Width> items = items_at(position + within, SOURCE);
            with_kind(leaf.kind, ReadItems<Width>{leaf.source, items, within * 8, words});
        }
    }

    __device__ void write_dense(std::uint64_t position, const uint4 (&words)[ITEMS]) const {
        const std::uint64_t line = leaf.destination - begin;
#pragma unroll
        for (unsigned next = 0; next < ITEMS; ++next) {
            const std::uint64_t here = position + next * WARP * word;
            if (here >= begin && here + word <= end) {
                store_word(line + here, words[next], word);
                continue;
            }
#pragma unroll 1
            for (unsigned within = 0; within < word; within += item) {
                if (here + within < begin || here + within >= end) continue;
                store_word(line + here + within, make_uint4(words[next].x >> within * 8, 0, 0, 0), item);
            }
        }
    }

    __device__ void write_strided(std::uint64_t position, const uint4 (&words)[ITEMS]) const {
        const Items<Width> items = items_at(position, DESTINATION);
#pragma unroll
        for (unsigned next = 0; next < ITEMS; ++next) {
            const std::uint64_t offset = static_cast<std::uint64_t>(items.at[next]) * item;
            if (items.inside[next]) store_word(leaf.destination + offset, words[next], item);
        }
    }
};

template <typename Width>
__device__ void copy_strided_as(const Leaf& leaf, const std::uint32_t* steps, const Share& share) {
    const unsigned item = 1u << leaf.item_shift;
    const unsigned word = leaf.strided || item >= 4 ? item : 4;
    const std::uint64_t begin = leaf.strided ? 0 : leaf.destination % LINE_BYTES;
    const Strided<Width> strided{leaf, steps, item, word, begin, begin + leaf.items * item};
    const std::uint64_t stop = bytes_of(share.last);
#pragma unroll 1
    for (std::uint64_t position = bytes_of(share.first) + share.lane * word; position < stop;
         position += Width::ITEMS * WARP * word) {
        uint4 words[Width::ITEMS] = {};
        strided.read(position, words);
        leaf.strided ? strided.write_strided(position, words) : strided.write_dense(position, words);
    }
}

__device__ inline void copy_strided(const Leaf& leaf, const std::uint32_t* steps, const Share& share) {
    leaf.wide ? copy_strided_as<Wide>(leaf, steps, share) : copy_strided_as<Narrow>(leaf, steps, share);
}

}  // namespace tnb::cuda
