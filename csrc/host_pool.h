#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "host_block.h"
#include "host_memory.h"
#include "pinned_budget.h"
#include "slab_arena.h"

namespace tnb {

struct PoolStats {
    std::size_t held_bytes = 0;       // page-locked: all slabs, and freed ones that the device has not let go of
    std::size_t leased_bytes = 0;     // in blocks with a lease
    std::size_t retained_bytes = 0;   // the part of that which no lease uses
    std::size_t inherited_bytes = 0;  // in blocks that a forked child may see: freed one day, never used again
    std::size_t slabs = 0;
    std::size_t allocations = 0;  // slabs ever allocated
    std::size_t refusals = 0;     // acquisitions that found the limit reached, or whose memory could not be locked

    PoolStats& operator+=(const PoolStats& other) noexcept;
};

// Page-locked memory that is used again and again.
//
//     HostBlock block = pool.acquire(bytes);   // a piece of a slab; a new slab only where no idle piece fits
//     if (!block) ...                          // the limit is reached: ordinary memory has to do
//     ... one lease to the copy in flight, one to each array over the block ...
//     // the last lease dropped: the piece is idle again
//
// Invariant: a block is handed out only while no lease on it exists. The copy that fills a block holds a lease until
// its event was seen to have completed, so no block is ever handed out with a copy in flight.
//
// A block that is leased while the process forks, in memory that a child shares with its parent, is not handed out
// again: the child's array stays what it was. In memory of which a child gets copies it is, and what is idle then is
// not copied.
class HostPool {
public:
    // `headroom`: what acquire() leaves free of the budget, for acquire_reserved(). `poison`: what comes back is
    // overwritten, for whoever still reads it to notice.
    static std::shared_ptr<HostPool> make(std::unique_ptr<HostMemory> memory, std::shared_ptr<PinnedBudget> budget,
                                          std::size_t headroom, bool poison = false);
    HostPool(const HostPool&) = delete;
    HostPool& operator=(const HostPool&) = delete;

    // An empty lease where the budget does not allow for a new slab, or its memory cannot be locked.
    HostBlock acquire(std::size_t bytes) { return acquire(bytes, {headroom_, SlabArena::any_time, Room::shared}); }
    // The same, for a block that may use the headroom.
    HostBlock acquire_reserved(std::size_t bytes) { return acquire(bytes, {0, SlabArena::any_time, Room::own}); }
    // The same, for a block that the host is going to write to: one that came back before the fence of that number, so
    // that nothing reads it any more.
    HostBlock acquire_for_host(std::size_t bytes, std::uint64_t before_fence) {
        return acquire(bytes, {headroom_, before_fence, Room::none});
    }

    // Before this there is only what was never handed out.
    static constexpr std::uint64_t never_handed_out = 1;
    // The number of a new fence. What came back before this call is before it.
    std::uint64_t next_fence() noexcept { return fences_.fetch_add(1, std::memory_order_acq_rel) + 1; }

    // Free the slabs that have no lease at all and what the memory's own cache holds. Waits a little for the device;
    // what it has not let go of by then is given back by a later call.
    void trim();

    PoolStats stats();

    // The engine of this pool is gone. Frees nothing: a later call that grows or trims any pool does, when the last
    // lease is gone.
    void retire() noexcept { retired_.store(true, std::memory_order_release); }
    // trim() of all retired pools.
    static void trim_retired();

private:
    friend class HostBlock;
    struct Registry;
    static Registry& registry();
    static std::vector<std::shared_ptr<HostPool>> all();
    static void before_fork() noexcept;
    static void after_fork_in_parent() noexcept;
    static void after_fork() noexcept;
    void set_idle_inheritable(bool inheritable) noexcept;

    HostPool(std::unique_ptr<HostMemory> memory, std::shared_ptr<PinnedBudget> budget, std::size_t headroom,
             bool poison)
        : memory_(std::move(memory)), budget_(std::move(budget)), headroom_(headroom), poison_(poison), arena_(this) {}

    // Whose idle slabs are freed at the limit: of this pool, or of all pools that share the budget.
    enum class Room : std::uint8_t { none, own, shared };
    struct Terms {
        std::size_t headroom;
        std::uint64_t before_fence;
        Room room;
    };

    HostBlock acquire(std::size_t bytes, Terms terms);
    void give_back(HostNode* node) noexcept;
    HostNode* take(std::size_t capacity, std::uint64_t before_fence);
    HostNode* grow(std::size_t capacity, Terms terms);
    // The bytes that were reserved of the budget for a slab; none where there is no room.
    std::size_t reserve(std::size_t capacity, Terms terms);
    bool make_room(std::size_t bytes, Terms terms);
    std::vector<std::shared_ptr<HostPool>> unused_pools();
    HostMemory::Allocation allocate(std::size_t& bytes, std::size_t smallest) noexcept;
    HostNode* add(const HostMemory::Allocation& allocation, std::size_t bytes, std::size_t capacity);
    std::size_t idle_bytes();
    void free_idle_slabs();
    void reclaim(Clock::time_point deadline, bool others);
    static void free_retired(Clock::duration patience);

    // Under the lock:
    void collect_returned();

    const std::unique_ptr<HostMemory> memory_;
    const std::shared_ptr<PinnedBudget> budget_;
    const std::size_t headroom_;
    const bool poison_;
    std::atomic<HostNode*> returned_{nullptr};
    std::atomic<std::uint64_t> fences_{never_handed_out};
    std::atomic<std::size_t> held_{0};
    std::atomic<std::size_t> leased_{0};
    std::atomic<std::size_t> allocations_{0};
    std::atomic<std::size_t> refusals_{0};
    std::atomic<bool> used_{false};  // since a pool of the same budget last looked for idle memory
    std::atomic<bool> retired_{false};
    std::atomic<bool> inherited_{false};  // a forked child saw something of it

    std::mutex mutex_;  // guards the arena; nothing that waits happens under it. Lock order: the registry's, then this.
    SlabArena arena_;
};

}  // namespace tnb
