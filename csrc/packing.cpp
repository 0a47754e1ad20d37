#include "packing.h"

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

// Describes leaves to the packer of a device type, if there is one.
class Packing {
public:
    Packing(const std::vector<HostBlock>& blocks, const CopyLane& lane)
        : blocks_(blocks),
          driver_(device_interface(lane.device().type())),
          device_(lane.device()),
          stream_(driver_.pack == nullptr || !has_kernels(device_) ? std::nullopt : lane.native_stream()) {}

    // Whether the packer takes the leaf.
    bool add(const PooledLeaf& leaf);
    // Whether it did so; it declines where no kernel runs on the device, from then on.
    bool enqueue() const;

private:
    bool fits(const PooledLeaf& leaf) const;
    char* device_address(const PooledLeaf& leaf);

    const std::vector<HostBlock>& blocks_;
    const DeviceInterface& driver_;
    const c10::Device device_;
    const std::optional<void*> stream_;
    std::vector<char*> seen_at_;  // by the device, of each block that was asked about
    std::vector<tnb_pack_leaf> described_;
};

bool Packing::add(const PooledLeaf& leaf) {
    if (!stream_.has_value() || !fits(leaf)) return false;
    char* address = device_address(leaf);
    if (address == nullptr) return false;
    const at::Tensor& source = *leaf.source;
    described_.push_back({source.const_data_ptr(), address, source.sizes().data(), source.strides().data(),
                          leaf.layout->strides.data(), static_cast<std::int32_t>(source.dim()),
                          static_cast<std::int8_t>(source.scalar_type()),
                          static_cast<std::int8_t>(leaf.layout->dtype)});
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

char* Packing::device_address(const PooledLeaf& leaf) {
    if (driver_.device_address == nullptr) return leaf.data;
    seen_at_.resize(blocks_.size());
    auto* begin = static_cast<char*>(blocks_[leaf.block].data());
    char*& seen_at = seen_at_[leaf.block];
    if (seen_at == nullptr) {
        void* address = nullptr;
        if (driver_.device_address(begin, device_.index(), &address) == 0) {
            seen_at = static_cast<char*>(address);
        } else if (driver_.clear_error != nullptr) {
            driver_.clear_error();
        }
    }
    return seen_at == nullptr ? nullptr : seen_at + (leaf.data - begin);
}

bool Packing::enqueue() const {
    const int status = driver_.pack(described_.data(), described_.size(), device_.index(), *stream_);
    if (status == 0) return true;
    if (const char* why = driver_.why_no_kernels == nullptr ? nullptr : driver_.why_no_kernels(status)) {
        note_no_kernels(device_, why);
        if (driver_.clear_error != nullptr) driver_.clear_error();
        return false;
    }
    throw driver_error(driver_, status,
                       "pack " + std::to_string(described_.size()) + " tensors of " + device_.str() + " for the host");
}

}  // namespace

void enqueue_pooled(const std::vector<PooledLeaf>& leaves, const std::vector<HostBlock>& blocks, const CopyLane& lane) {
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
