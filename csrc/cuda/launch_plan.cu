#include "launch_plan.h"

#include <algorithm>

#include "element_types.h"

namespace tnb::cuda {
namespace {

constexpr unsigned NO_KIND = ~0u;

unsigned kind_of_cast(Element source, Element destination) {
    for (unsigned row = 0; row < CAST_COUNT; ++row) {
        if (CASTS[row].source == source && CASTS[row].destination == destination) return PLAIN_KINDS + row;
    }
    return NO_KIND;
}

unsigned log2_of(std::uint64_t power_of_two) {
    unsigned shift = 0;
    while (power_of_two >> (shift + 1) != 0) ++shift;
    return shift;
}

bool is_empty(const tnb_pack_leaf& leaf) {
    return std::any_of(leaf.sizes, leaf.sizes + leaf.rank, [](std::int64_t size) { return size == 0; });
}

// What is contiguous on both sides is cast from the widest loads there are, where these are aligned for all units.
bool is_cast_by_units(std::uint64_t source, std::uint64_t destination, unsigned source_item, unsigned item) {
    const std::uint64_t before = (UNIT_BYTES - destination % UNIT_BYTES) % UNIT_BYTES / item * source_item;
    return (source + before) % std::min(UNIT_BYTES, UNIT_BYTES / item * source_item) == 0;
}

// A leaf with the steps that its record will have.
struct Described {
    Leaf leaf;
    Gather gather;
};

void describe_plain(const tnb_pack_leaf& given, unsigned item, Described& described) {
    auto& [leaf, gather] = described;
    gather = make_gather(given.rank, given.sizes, given.source_strides, given.destination_strides, item);
    if (is_dense(gather)) {
        leaf.items = static_cast<std::uint64_t>(count(gather));
        gather.rank = 0;
        return;
    }
    const std::int64_t unit = widest_unit(gather, leaf.source, leaf.destination);
    count_in(gather, unit);
    leaf.items = static_cast<std::uint64_t>(count(gather));
    leaf.kind = leaf.item_shift = log2_of(static_cast<std::uint64_t>(unit));
}

void describe_cast(const tnb_pack_leaf& given, unsigned source_item, unsigned item, Described& described) {
    auto& [leaf, gather] = described;
    gather = make_gather(given.rank, given.sizes, given.source_strides, given.destination_strides, 1);
    leaf.items = static_cast<std::uint64_t>(count(gather));
    leaf.item_shift = log2_of(item);
    if (!is_dense(gather)) return;
    const bool by_units = is_cast_by_units(leaf.source, leaf.destination, source_item, item);
    gather.dims[0] = {count(gather), 1, 1};
    gather.rank = by_units ? 0 : 1;
}

void describe(const tnb_pack_leaf& given, Described& described) {
    const auto source = static_cast<Element>(given.source_type),
               destination = static_cast<Element>(given.destination_type);
    auto& [leaf, gather] = described;
    leaf = {};
    leaf.source = reinterpret_cast<std::uintptr_t>(given.source);
    leaf.destination = reinterpret_cast<std::uintptr_t>(given.destination);
    if (source == destination) {
        describe_plain(given, item_size(destination), described);
    } else {
        leaf.kind = kind_of_cast(source, destination);
        describe_cast(given, item_size(source), item_size(destination), described);
    }
    leaf.rank = static_cast<std::uint32_t>(gather.rank);
    leaf.strided = !has_dense_destination(gather);
    leaf.wide = !fits_32_bits(gather);
    const unsigned numbers = leaf.rank * (leaf.strided ? 3 : 2) * (leaf.wide ? 2 : 1);
    leaf.slots = LONG_SLOTS + (numbers + SLOT_WORDS - 1) / SLOT_WORDS;
}

void put(std::uint32_t*& words, std::uint64_t value, bool wide) {
    *words++ = static_cast<std::uint32_t>(value);
    if (wide) *words++ = static_cast<std::uint32_t>(value >> 32);
}

void write_long(const Described& described, std::uint32_t* words) {
    const auto& [leaf, gather] = described;
    put(words, leaf.source, true);
    put(words,
        LONG | (leaf.wide ? WIDE : 0) | (leaf.strided ? STRIDED : 0) | leaf.kind | leaf.rank << 8 |
            leaf.item_shift << 16 | leaf.slots << 24,
        true);
    put(words, leaf.destination, true);
    put(words, leaf.items, true);
    for (auto side : {&Dimension::size, &Dimension::source, &Dimension::destination}) {
        if (side == &Dimension::destination && !leaf.strided) break;
        for (int dim = 0; dim < gather.rank; ++dim)
            put(words, static_cast<std::uint64_t>(gather.dims[dim].*side), leaf.wide);
    }
}

// Whether it was written: into one slot only what is copied as it is, of a length and to a place that have the bits.
bool write_short(const Leaf& leaf, std::uint64_t base, std::uint32_t* words) {
    const std::uint64_t offset = leaf.destination - base;
    if (leaf.kind != 0 || leaf.rank != 0 || offset >> OFFSET_BITS != 0 || leaf.items >> LENGTH_BITS != 0) return false;
    put(words, leaf.source, true);
    put(words, offset | leaf.items << OFFSET_BITS, true);
    return true;
}

// Where each warp begins, from the records.
void divide(LargestArguments& arguments) {
    std::uint64_t start = 0, before = 0;
    unsigned slot = 0;
    Leaf leaf = read_record(arguments.words, arguments.base);
    for (std::uint32_t warp = 0; warp < arguments.warps; ++warp) {
        while (start >= before + rounds_of(leaf)) {
            before += rounds_of(leaf);
            slot += leaf.slots;
            leaf = read_record(arguments.words + slot * SLOT_WORDS, arguments.base);
        }
        arguments.round[warp] = static_cast<std::uint32_t>(start - before);
        arguments.slot[warp] = static_cast<std::uint16_t>(slot);
        start += share(arguments.rounds, arguments.warps, warp);
    }
}

}  // namespace

bool is_packable(const tnb_pack_leaf& leaf) {
    if (!tnb_cuda_packs(leaf.source_type, leaf.destination_type) || leaf.rank < 0 || leaf.rank > MAX_RANK) return false;
    if (leaf.source_type == leaf.destination_type) return true;
    const unsigned source_item = item_size(static_cast<Element>(leaf.source_type));
    const unsigned item = item_size(static_cast<Element>(leaf.destination_type));
    return reinterpret_cast<std::uintptr_t>(leaf.source) % source_item == 0 &&
           reinterpret_cast<std::uintptr_t>(leaf.destination) % item == 0;
}

Launch describe(const tnb_pack_leaf* leaves, std::size_t count, const Limits& limits, LargestArguments& arguments) {
    Launch launch;
    Described described;
    // In the middle of what short records reach.
    const std::uint64_t middle = std::uint64_t{1} << (OFFSET_BITS - 1);
    arguments.base = reinterpret_cast<std::uintptr_t>(leaves[0].destination) - middle;
    arguments.rounds = 0;
    for (; launch.leaves < count && launch.leaves < MAX_LEAVES; ++launch.leaves) {
        if (is_empty(leaves[launch.leaves])) continue;
        describe(leaves[launch.leaves], described);
        std::uint32_t* const words = arguments.words + launch.slots * SLOT_WORDS;
        if (launch.slots + 1 <= limits.slots && write_short(described.leaf, arguments.base, words)) {
            described.leaf.slots = 1;
        } else if (launch.slots + described.leaf.slots <= limits.slots) {
            write_long(described, words);
        } else {
            break;
        }
        launch.slots += described.leaf.slots;
        arguments.rounds += static_cast<std::uint32_t>(rounds_of(described.leaf));
    }
    if (launch.slots == 0) return launch;
    arguments.warps = std::min(arguments.rounds, limits.blocks * limits.warps_a_block);
    divide(arguments);
    launch.blocks = (arguments.warps + limits.warps_a_block - 1) / limits.warps_a_block;
    return launch;
}

}  // namespace tnb::cuda

int tnb_cuda_packs(int source_type, int destination_type) {
    if ((source_type | destination_type) >> 7 != 0) return 0;  // no value of Element
    const auto source = static_cast<tnb::cuda::Element>(source_type),
               destination = static_cast<tnb::cuda::Element>(destination_type);
    return source == destination ? tnb::cuda::item_size(source) != 0
                                 : tnb::cuda::kind_of_cast(source, destination) != tnb::cuda::NO_KIND;
}
