#include "pack_plan.h"

#include <array>
#include <bit>

#include "host_block.h"

namespace tnb {
namespace {

// Sizes above one power of two and up to the next are alike.
std::size_t class_of(std::size_t packed) {
    return static_cast<std::size_t>(std::bit_width(packed - 1));
}

// The block that the next leaf of a class goes to, while it has room.
struct OpenBlock {
    std::uint32_t index = 0;
    std::size_t leaves = PackPlan::leaves_per_block;
};

}  // namespace

PackPlan plan_blocks(std::span<const std::size_t> leaves, bool fresh) {
    constexpr auto classes = static_cast<std::size_t>(std::bit_width(PackPlan::largest_shared_leaf)) + 1;
    std::array<OpenBlock, classes> open;
    PackPlan plan;
    plan.places.reserve(leaves.size());
    for (const std::size_t bytes : leaves) {
        const std::size_t packed = block_bytes(bytes);
        OpenBlock alone;
        OpenBlock& block = fresh || packed > PackPlan::largest_shared_leaf ? alone : open.at(class_of(packed));
        if (block.leaves == PackPlan::leaves_per_block) {
            block = {static_cast<std::uint32_t>(plan.blocks.size()), 0};
            plan.blocks.push_back(0);
        }
        ++block.leaves;
        plan.places.push_back({block.index, plan.blocks[block.index]});
        plan.blocks[block.index] += packed;
    }
    return plan;
}

}  // namespace tnb
