#include "packing.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>

#include "copy_lane.h"
#include "copy_routes.h"
#include "device.h"
#include "pack_plan.h"
#include "shortfalls.h"

namespace tnb {
namespace {

// Of memory of the device that is the copies' own little is taken, for compute cannot have it: what a tree needs beyond
// that comes in turns.
constexpr std::size_t staging_bytes = std::size_t{8} << 20;

// What the packer is to fill of a block.
struct Filled {
    char* begin = nullptr;  // of its leaves; on the host
    char* end = nullptr;
    char* seen_at = nullptr;          // `begin`, by the device
    std::optional<std::size_t> turn;  // none where it is filled across the bus
    std::size_t offset = 0;           // of `begin` in the memory of the turn

    std::size_t bytes() const { return static_cast<std::size_t>(end - begin); }
};

// Describes leaves to the packer of a device type, if there is one.
class Packing {
public:
    Packing(const std::vector<HostBlock>& blocks, CopyLane& lane)
        : blocks_(blocks),
          lane_(lane),
          driver_(device_interface(lane.device().type())),
          stream_(driver_.pack == nullptr || !has_kernels(lane.device()) ? std::nullopt : lane.native_stream()) {}

    // Whether the packer takes the leaf.
    bool add(const PooledLeaf& leaf);
    // Whether it did so; it declines where no kernel runs on the device, from then on.
    bool enqueue();

private:
    bool fits(const PooledLeaf& leaf) const;
    char* device_address(std::size_t block);
    std::vector<std::size_t> plan_turns();
    at::Tensor take_staging(std::size_t bytes) const;
    tnb_pack_leaf describe(const PooledLeaf& leaf, const at::Tensor& staging) const;
    bool launch(const std::vector<const PooledLeaf*>& leaves, const at::Tensor& staging) const;
    void bring_over(std::size_t turn, const at::Tensor& staging) const;

    const std::vector<HostBlock>& blocks_;
    CopyLane& lane_;
    const DeviceInterface& driver_;
    const std::optional<void*> stream_;
    std::vector<Filled> filled_;  // of each block
    std::vector<const PooledLeaf*> leaves_;
};

bool Packing::add(const PooledLeaf& leaf) {
    if (!stream_.has_value() || !fits(leaf)) return false;
    filled_.resize(blocks_.size());
    Filled& filled = filled_[leaf.block];
    if (filled.begin == nullptr) {
        char* block = device_address(leaf.block);
        if (block == nullptr) return false;
        // The leaves of a block come in the order of their places.
        filled.begin = leaf.data;
        filled.seen_at = block + (leaf.data - static_cast<char*>(blocks_[leaf.block].data()));
    }
    filled.end = leaf.data + leaf.layout->bytes;
    leaves_.push_back(&leaf);
    return true;
}

// Whether a device can read the items one by one. Memory of another library's may lie otherwise.
bool is_aligned(const at::Tensor& source) {
    return reinterpret_cast<std::uintptr_t>(source.const_data_ptr()) % source.element_size() == 0;
}

// A large leaf is better left to the device's copy engine, beside which it computes. One whose destination runs along
// other dimensions than the source would be stored across the bus by the element.
bool Packing::fits(const PooledLeaf& leaf) const {
    const at::Tensor& source = *leaf.source;
    return leaf.layout->bytes <= PackPlan::largest_shared_leaf && !leaf.layout->reordered && !source.is_conj() &&
           !source.is_neg() && (source.scalar_type() == leaf.layout->dtype || is_aligned(source)) &&
           driver_.packs(static_cast<int>(source.scalar_type()), static_cast<int>(leaf.layout->dtype)) != 0;
}

char* Packing::device_address(std::size_t block) {
    void* begin = blocks_[block].data();
    if (driver_.device_address == nullptr) return static_cast<char*>(begin);
    void* address = nullptr;
    if (driver_.device_address(begin, lane_.device().index(), &address) == 0) return static_cast<char*>(address);
    if (driver_.clear_error != nullptr) driver_.clear_error();
    return nullptr;
}

// Decides which blocks are filled in memory of the device and brought over by one copy each; the bytes of each turn. No
// copy touches what is not ours: leaves of the caller's arrays are dense, and alone in what is their block here.
std::vector<std::size_t> Packing::plan_turns() {
    std::vector<std::size_t> turns;
    if (driver_.stages == nullptr || driver_.copy_to_host == nullptr) return turns;
    for (Filled& filled : filled_) {
        if (filled.begin == nullptr || driver_.stages(filled.bytes()) == 0) continue;
        const std::size_t bytes = block_bytes(filled.bytes());
        if (turns.empty() || turns.back() + bytes > staging_bytes) turns.push_back(0);
        filled.turn = turns.size() - 1;
        filled.offset = turns.back();
        turns.back() += bytes;
    }
    return turns;
}

bool Packing::enqueue() {
    const std::vector<std::size_t> turns = plan_turns();
    // What is stored across the bus goes with the first.
    std::vector<std::vector<const PooledLeaf*>> leaves(std::max<std::size_t>(turns.size(), 1));
    for (const PooledLeaf* leaf : leaves_) leaves[filled_[leaf->block].turn.value_or(0)].push_back(leaf);
    for (std::size_t turn = 0; turn < leaves.size(); ++turn) {
        const at::Tensor staging = turns.empty() ? at::Tensor() : take_staging(turns[turn]);
        if (!launch(leaves[turn], staging)) return false;
        if (staging.defined()) bring_over(turn, staging);
    }
    return true;
}

// Undefined where the device has none to give: it goes across the bus without, and whatever else is wrong with the
// device is told there.
at::Tensor Packing::take_staging(std::size_t bytes) const {
    if (!lane_.may_have_memory()) return {};
    try {
        return device_bytes(lane_, bytes);
    } catch (const std::exception&) {
        lane_.note_refused_memory();
        return {};
    }
}

tnb_pack_leaf Packing::describe(const PooledLeaf& leaf, const at::Tensor& staging) const {
    const Filled& filled = filled_[leaf.block];
    const bool staged = filled.turn.has_value() && staging.defined();
    char* begin = staged ? static_cast<char*>(staging.mutable_data_ptr()) + filled.offset : filled.seen_at;
    const at::Tensor& source = *leaf.source;
    return {source.const_data_ptr(),
            begin + (leaf.data - filled.begin),
            source.sizes().data(),
            source.strides().data(),
            leaf.layout->strides.data(),
            static_cast<std::int32_t>(source.dim()),
            static_cast<std::int8_t>(source.scalar_type()),
            static_cast<std::int8_t>(leaf.layout->dtype)};
}

bool Packing::launch(const std::vector<const PooledLeaf*>& leaves, const at::Tensor& staging) const {
    const c10::Device device = lane_.device();
    std::vector<tnb_pack_leaf> described;
    described.reserve(leaves.size());
    for (const PooledLeaf* leaf : leaves) described.push_back(describe(*leaf, staging));
    const int status = driver_.pack(described.data(), described.size(), device.index(), *stream_);
    if (status == 0) return true;
    if (const char* why = driver_.why_no_kernels == nullptr ? nullptr : driver_.why_no_kernels(status)) {
        note_no_kernels(device, why);
        if (driver_.clear_error != nullptr) driver_.clear_error();
        return false;
    }
    throw driver_error(driver_, status,
                       "pack " + std::to_string(described.size()) + " tensors of " + device.str() + " for the host");
}

void Packing::bring_over(std::size_t turn, const at::Tensor& staging) const {
    const auto* packed = static_cast<const char*>(staging.const_data_ptr());
    for (const Filled& filled : filled_) {
        if (filled.turn != turn) continue;
        const int status = driver_.copy_to_host(filled.begin, packed + filled.offset, filled.bytes(), *stream_);
        if (status != 0) throw driver_error(driver_, status, "copy packed tensors of " + lane_.device().str());
    }
}

}  // namespace

void enqueue_pooled(const std::vector<PooledLeaf>& leaves, const std::vector<HostBlock>& blocks, CopyLane& lane) {
    Packing packing(blocks, lane);
    std::vector<const PooledLeaf*> others, packed;
    if (leaves.size() > 1) packed.reserve(leaves.size());
    for (const PooledLeaf& leaf : leaves) {
        (leaves.size() > 1 && packing.add(leaf) ? packed : others).push_back(&leaf);
    }
    // One alone is a copy like any other.
    if (packed.size() > 1 && packing.enqueue()) packed.clear();
    for (const auto* leaves_left : {&packed, &others}) {
        for (const PooledLeaf* leaf : *leaves_left) enqueue_copy(lane, *leaf->source, *leaf->layout, leaf->data);
    }
}

}  // namespace tnb
