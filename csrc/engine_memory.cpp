// What an engine does with its memory; what it copies there is in engine.cpp.

#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <utility>

#include "copy_lane.h"
#include "device.h"
#include "engine.h"
#include "pack_plan.h"
#include "process.h"

namespace tnb {

std::shared_ptr<HostPool> Engine::pool(c10::DeviceType type) {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (const auto found = pools_.find(type); found != pools_.end()) return found->second;
    }
    auto memory = make_host_memory(type, *limit_->budget);  // calls the device
    // Half of a small limit is better used by arrays than kept for a ring.
    const std::size_t headroom = limit_->budget->limit() >= 2 * StagingRing::bytes ? StagingRing::bytes : 0;
    const std::lock_guard<std::mutex> lock(mutex_);
    auto& pool = pools_[type];
    if (pool == nullptr) pool = HostPool::make(std::move(memory), limit_->budget, headroom, poison_);
    return pool;
}

std::vector<std::shared_ptr<HostPool>> Engine::pools() {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::vector<std::shared_ptr<HostPool>> pools;
    for (const auto& [type, pool] : pools_) pools.push_back(pool);
    return pools;
}

Engine::Pooled Engine::take_blocks(const std::vector<Leaf>& leaves, HostPool& pool, bool fresh) {
    Pooled pooled;
    pooled.leaves.reserve(leaves.size());
    std::vector<const Leaf*> homeless;
    std::vector<std::size_t> bytes;
    homeless.reserve(leaves.size());
    bytes.reserve(leaves.size());
    for (const Leaf& leaf : leaves) {
        if (leaf.out == nullptr) {
            homeless.push_back(&leaf);
            bytes.push_back(leaf.layout.bytes);
        } else if (leaf.out->is_written_by(leaf.tensor->device())) {
            pooled.leaves.push_back({leaf.tensor, &leaf.layout, leaf.index, leaf.out->data, pooled.blocks.size()});
            pooled.blocks.push_back(leaf.out->block.share(0));  // its array lives, and uses it
            *leaf.values = Delivered{};
        }
    }
    const PackPlan plan = plan_blocks(bytes, fresh);
    const std::size_t first = pooled.blocks.size();
    pooled.blocks.reserve(first + plan.blocks.size());
    for (const std::size_t size : plan.blocks) pooled.blocks.push_back(pool.acquire(size));
    for (std::size_t index = 0; index < homeless.size(); ++index) {
        const Leaf& leaf = *homeless[index];
        const auto [block, offset] = plan.places[index];
        const HostBlock& shared = pooled.blocks[first + block];
        if (!shared) continue;
        char* data = static_cast<char*>(shared.data()) + offset;
        pooled.leaves.push_back({leaf.tensor, &leaf.layout, leaf.index, data, first + block});
        *leaf.values = CopiedValues{shared.share(block_bytes(bytes[index])), data, leaf.layout.dtype,
                                    at::DimVector(leaf.tensor->sizes()), leaf.layout.strides};
    }
    return pooled;
}

HostBlock Engine::page_locked_for_host(c10::Device device, std::size_t bytes) {
    const RelaxedCapture relaxed(device.type());
    if (!copies_asynchronously(device)) return {};
    // An event on a stream that is being captured would become part of the graph.
    if (is_capturing(c10::impl::VirtualGuardImpl(device.type()).getStream(device))) return {};
    const std::shared_ptr<HostPool> memory = pool(device.type());
    HostFences* fences = nullptr;
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        fences = &fences_[device.type()];
    }
    return memory->acquire_for_host(bytes, fences->settled(*memory, CopyLane::of(device)));
}

CopiedValues Engine::empty(std::optional<c10::Device> device, std::size_t bytes) {
    CopiedValues values{{}, nullptr, c10::kByte, {static_cast<std::int64_t>(bytes)}, {1}};
    if (device.has_value() && !process_is_forked_child()) {
        if (HostBlock block = page_locked_for_host(*device, bytes)) {
            values.data = block.data();
            values.memory = std::move(block);
            return values;
        }
    }
    auto block = std::make_shared<OrdinaryBlock>(OrdinaryBlock::allocate(bytes));
    values.data = block->data();
    values.memory = std::move(block);
    leaves_unpooled_.fetch_add(1, std::memory_order_relaxed);
    return values;
}

void Engine::trim() {
    if (process_is_forked_child()) return;
    for (CopyLane* lane : CopyLane::all()) lane->sweep();
    limit_->rings->clear();
    for (const auto& pool : pools()) pool->trim();
    HostPool::trim_retired();
}

EngineStats Engine::stats() {
    EngineStats stats;
    stats.limit = limit_->budget->limit();
    if (process_is_forked_child()) return stats;
    for (const auto& pool : pools()) stats.pool += pool->stats();
    // Another thread may have given memory back since: no pool held more than all did.
    stats.budget = std::max(limit_->budget->held(), stats.pool.held_bytes);
    stats.transfers = transfers_.load(std::memory_order_relaxed);
    stats.bytes_copied = bytes_copied_.load(std::memory_order_relaxed);
    stats.leaves_unpooled = leaves_unpooled_.load(std::memory_order_relaxed);
    return stats;
}

}  // namespace tnb
