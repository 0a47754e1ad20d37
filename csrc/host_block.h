#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace c10 {
enum class DeviceType : signed char;
}

namespace tnb {

class HostPool;
struct HostSlab;

// Blocks, and the parts of a block that are used apart from each other, begin at multiples of this: a kernel that
// stores whole lines owns whole lines.
constexpr std::size_t block_alignment = 128;

// What so many bytes take of a block.
constexpr std::size_t block_bytes(std::size_t bytes) noexcept {
    return (bytes + block_alignment - 1) & ~(block_alignment - 1);
}

// What the pool keeps of one piece of a slab. The pieces of a slab are a list in the order of their addresses.
struct HostNode {
    enum class State : std::uint8_t {
        leased,
        ready,   // idle, to be taken as it is
        merged,  // idle; no neighbour of it is merged too
        spent,   // idle, but a forked child still sees it: of no use any more, until its slab is freed
    };

    char* data = nullptr;
    std::size_t capacity = 0;
    HostPool* pool = nullptr;
    HostSlab* slab = nullptr;
    HostNode* before = nullptr;
    HostNode* after = nullptr;
    // Guarded by the pool.
    State state = State::leased;
    bool inherited = false;         // by a forked child, in memory that parent and child share
    HostNode* next = nullptr;       // in a list of returned or of ready nodes
    std::uint64_t returned_at = 0;  // the latest fence of the pool when the last lease was dropped
    std::atomic<std::uint32_t> leases{0};
    std::atomic<std::size_t> used{
        0};  // the sum of what the leases use: less than the capacity where it is kept for few
};

// A move-only lease on one block of page-locked memory. The arrays over a block hold one lease each and so does the
// copy that fills it; when the last one is dropped the block is back in its pool. Dropping a lease is a push onto a
// list: no device call, no wait, no lock, no GIL, so it may happen on any thread, inside garbage collection too.
class HostBlock {
public:
    HostBlock() = default;
    // The first lease, which uses the whole block.
    explicit HostBlock(HostNode* node) noexcept : node_(node), used_(node->capacity) {
        node_->used.store(used_, std::memory_order_relaxed);
        node_->leases.store(1, std::memory_order_relaxed);
    }
    HostBlock(HostBlock&& other) noexcept
        : node_(std::exchange(other.node_, nullptr)), used_(std::exchange(other.used_, 0)) {}
    HostBlock& operator=(HostBlock&& other) noexcept {
        std::swap(node_, other.node_);
        std::swap(used_, other.used_);
        return *this;
    }
    HostBlock(const HostBlock&) = delete;
    HostBlock& operator=(const HostBlock&) = delete;
    ~HostBlock();

    // Another lease on the same block, which uses so many bytes of it beside what others use.
    HostBlock share(std::size_t used) const noexcept {
        node_->used.fetch_add(used, std::memory_order_relaxed);
        node_->leases.fetch_add(1, std::memory_order_relaxed);
        HostBlock other;
        other.node_ = node_;
        other.used_ = used;
        return other;
    }

    explicit operator bool() const noexcept { return node_ != nullptr; }
    void* data() const noexcept { return node_ == nullptr ? nullptr : node_->data; }
    // The device type that copies to it behind our back. Not of an empty lease.
    c10::DeviceType device_type() const noexcept;

private:
    HostNode* node_ = nullptr;
    std::size_t used_ = 0;
};

}  // namespace tnb
