#pragma once

// Device code: leaves that are contiguous on both sides, copied as they are or cast.

#include "kinds.h"

namespace tnb::cuda {

// Units of a lane: as many as make four loads; and few enough that a kernel with two dozen casts stays small.
constexpr unsigned units_at_once(unsigned loads, unsigned conversions) {
    unsigned units = UNITS_IN_FLIGHT;
    while (units > 1 && (units * loads > UNITS_IN_FLIGHT || units * conversions > MAX_CONVERSIONS)) units /= 2;
    return units;
}

// Reads in pieces of so many bytes, which the source's alignment allows.
template <typename Kind, unsigned PIECE_BYTES>
struct Contiguous {
    static constexpr unsigned ITEM_BYTES = Kind::ITEM_BYTES;
    static constexpr unsigned ITEMS = UNIT_BYTES / ITEM_BYTES;
    static constexpr unsigned LOADS = ITEMS * Kind::SOURCE_BYTES / PIECE_BYTES;  // for a unit
    static constexpr unsigned AT_ONCE = units_at_once(LOADS, Kind::IS_PLAIN ? 0 : ITEMS);
    using Piece = Bits<PIECE_BYTES>;
    using Source = Bits<Kind::SOURCE_BYTES>;
    using Item = Bits<ITEM_BYTES>;

    std::uint64_t source;

    // The 16 bytes of the destination that begin with an item.
    __device__ uint4 unit(std::uint64_t item) const {
        const Piece* from = pointer<Piece>(source + item * Kind::SOURCE_BYTES);
        Piece pieces[LOADS];
#pragma unroll
        for (unsigned load = 0; load < LOADS; ++load) pieces[load] = __ldcs(from + load);
        Source items[ITEMS];
        std::memcpy(items, pieces, sizeof items);
        Item converted[ITEMS];
#pragma unroll
        for (unsigned next = 0; next < ITEMS; ++next) converted[next] = Kind::convert(items[next]);
        return bits_as<uint4>(converted);
    }
    __device__ Item item(std::uint64_t index) const { return Kind::convert(__ldcs(pointer<Source>(source) + index)); }
};

__device__ inline bool is_whole(std::uint64_t unit, std::uint64_t begin, std::uint64_t end) {
    return unit >= begin && unit + UNIT_BYTES <= end;
}

// All units that lie in the destination as a whole. Those that a warp stores at once are whole lines.
template <typename Reader>
__device__ void write_units(const Reader& reader, std::uint64_t begin, std::uint64_t end, const Share& share) {
    constexpr unsigned AT_ONCE = Reader::AT_ONCE;
    const std::uint64_t line = begin - begin % LINE_BYTES;
    const std::uint64_t stop = line + bytes_of(share.last);
    std::uint64_t address = line + bytes_of(share.first) + share.lane * UNIT_BYTES;
#pragma unroll 1
    for (; address < stop; address += AT_ONCE * STORE_BYTES) {
        uint4 units[AT_ONCE] = {};
#pragma unroll
        for (unsigned next = 0; next < AT_ONCE; ++next) {
            const std::uint64_t here = address + next * STORE_BYTES;
            if (is_whole(here, begin, end)) units[next] = reader.unit((here - begin) / Reader::ITEM_BYTES);
        }
#pragma unroll
        for (unsigned next = 0; next < AT_ONCE; ++next) {
            const std::uint64_t here = address + next * STORE_BYTES;
            if (is_whole(here, begin, end)) store(here, units[next]);
        }
    }
}

// The items before the first whole unit, by the first 16 lanes, and those after the last, by the others.
template <typename Reader>
__device__ void write_edges(const Reader& reader, std::uint64_t begin, std::uint64_t end, const Share& share) {
    const std::uint64_t up = (begin + UNIT_BYTES - 1) / UNIT_BYTES * UNIT_BYTES;
    const std::uint64_t first_unit = up < end ? up : end;
    const std::uint64_t down = end / UNIT_BYTES * UNIT_BYTES;
    const std::uint64_t last_unit = down > first_unit ? down : first_unit;
    const bool is_head = share.lane < WARP / 2;
    const std::uint64_t nth = share.lane % (WARP / 2) * Reader::ITEM_BYTES;
    const std::uint64_t here = (is_head ? begin : last_unit) + nth;
    const bool is_inside = is_head ? share.first == 0 && here < first_unit : share.tail && here < end;
    if (is_inside) store(here, reader.item((here - begin) / Reader::ITEM_BYTES));
}

__device__ inline void copy_bytes(const Leaf& leaf, const Share& share) {
    const std::uint64_t end = leaf.destination + leaf.items;
    const auto apart = static_cast<unsigned>((leaf.source - leaf.destination) % UNIT_BYTES);
    if (apart == 0) {
        write_units(Contiguous<Plain<1>, 16>{leaf.source}, leaf.destination, end, share);
    } else if (apart % 8 == 0) {
        write_units(Contiguous<Plain<1>, 8>{leaf.source}, leaf.destination, end, share);
    } else if (apart % 4 == 0) {
        write_units(Contiguous<Plain<1>, 4>{leaf.source}, leaf.destination, end, share);
    } else if (apart % 2 == 0) {
        write_units(Contiguous<Plain<1>, 2>{leaf.source}, leaf.destination, end, share);
    } else {
        write_units(Contiguous<Plain<1>, 1>{leaf.source}, leaf.destination, end, share);
    }
    write_edges(Contiguous<Plain<1>, 1>{leaf.source}, leaf.destination, end, share);
}

struct CopyCast {
    const Leaf& leaf;
    const Share& share;

    template <typename Kind>
    __device__ void operator()(Kind) const {
        constexpr unsigned WIDEST = UNIT_BYTES / Kind::ITEM_BYTES * Kind::SOURCE_BYTES;
        const Contiguous < Kind, WIDEST<UNIT_BYTES ? WIDEST : UNIT_BYTES> reader{leaf.source};
        const std::uint64_t end = leaf.destination + leaf.items * Kind::ITEM_BYTES;
        write_units(reader, leaf.destination, end, share);
        write_edges(reader, leaf.destination, end, share);
    }
};

__device__ inline void copy_dense(const Leaf& leaf, const Share& share) {
    if (leaf.kind == 0) {
        copy_bytes(leaf, share);
    } else {
        with_cast(leaf.kind, CopyCast{leaf, share});
    }
}

}  // namespace tnb::cuda
