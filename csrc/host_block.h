#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace tnb {

class HostPool;
struct HostSlab;

// What the pool keeps of one piece of a slab. The pieces of a slab are a list in the order of their addresses.
struct HostNode {
    char* data = nullptr;
    std::size_t capacity = 0;
    HostPool* pool = nullptr;
    HostSlab* slab = nullptr;
    HostNode* before = nullptr;
    HostNode* after = nullptr;
    // Idle nodes are ready to be taken as they are, or merged: then no neighbour is merged too. Guarded by the pool.
    enum class State : std::uint8_t { leased, ready, merged } state = State::leased;
    HostNode* next = nullptr;  // in the list of returned nodes
    std::atomic<std::uint32_t> leases{0};
};

// A move-only lease on one block of page-locked memory. The arrays over a block hold one lease each and so does the
// copy that fills it; when the last one is dropped the block is back in its pool. Dropping a lease is a push onto a
// list: no device call, no wait, no lock, no GIL, so it may happen on any thread, inside garbage collection too.
class HostBlock {
public:
    HostBlock() = default;
    explicit HostBlock(HostNode* node) noexcept : node_(node) { node_->leases.store(1, std::memory_order_relaxed); }
    HostBlock(HostBlock&& other) noexcept : node_(std::exchange(other.node_, nullptr)) {}
    HostBlock& operator=(HostBlock&& other) noexcept {
        std::swap(node_, other.node_);
        return *this;
    }
    HostBlock(const HostBlock&) = delete;
    HostBlock& operator=(const HostBlock&) = delete;
    ~HostBlock();

    // A second lease on the same block.
    HostBlock share() const noexcept {
        node_->leases.fetch_add(1, std::memory_order_relaxed);
        HostBlock other;
        other.node_ = node_;
        return other;
    }

    explicit operator bool() const noexcept { return node_ != nullptr; }
    void* data() const noexcept { return node_ == nullptr ? nullptr : node_->data; }

private:
    HostNode* node_ = nullptr;
};

}  // namespace tnb
