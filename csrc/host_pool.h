#pragma once

#include <atomic>
#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "host_block.h"
#include "host_memory.h"
#include "pinned_budget.h"

namespace tnb {

struct PoolStats {
    std::size_t held_bytes = 0;    // page-locked: all slabs, and freed ones that the device has not let go of
    std::size_t leased_bytes = 0;  // in blocks with a lease
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
// Idle pieces of the very size asked for are taken first, so a loop with stable shapes gets the same blocks each turn;
// else neighbours are merged and the smallest piece that fits is split (best fit with boundary tags; Knuth, TAOCP 1,
// 2.5). Sizes are rounded to the alignment only.
class HostPool {
public:
    // A kernel that stores whole lines owns whole lines.
    static constexpr std::size_t alignment = 128;

    // `headroom`: what acquire() leaves free of the budget, for acquire_reserved().
    HostPool(std::unique_ptr<HostMemory> memory, std::shared_ptr<PinnedBudget> budget, std::size_t headroom);
    HostPool(const HostPool&) = delete;
    HostPool& operator=(const HostPool&) = delete;
    // Frees nothing: only pools that hold nothing any more are destroyed; see retire().
    ~HostPool();

    // An empty lease where the budget does not allow for a new slab, or its memory cannot be locked.
    HostBlock acquire(std::size_t bytes) { return acquire(bytes, headroom_); }
    // The same, for a block that may use the headroom.
    HostBlock acquire_reserved(std::size_t bytes) { return acquire(bytes, 0); }

    // Free the slabs that have no lease at all, those of retired pools too, and what the memory's own cache holds.
    // Waits a little for the device; what it has not let go of by then is given back by a later call.
    void trim();

    PoolStats stats();

    // Hand over a pool whose engine is gone. Frees nothing: a later call that grows or trims any pool does, when the
    // last lease is gone.
    static void retire(std::unique_ptr<HostPool> pool);
    // trim() of all retired pools.
    static void trim_retired();

private:
    friend class HostBlock;

    struct BySize {
        bool operator()(const HostNode* a, const HostNode* b) const noexcept {
            return a->capacity != b->capacity ? a->capacity < b->capacity : a->data < b->data;
        }
    };

    void give_back(HostNode* node) noexcept;
    HostNode* take(std::size_t capacity);
    HostNode* grow(std::size_t capacity, std::size_t headroom);
    HostBlock acquire(std::size_t bytes, std::size_t headroom);
    void free_idle_slabs();
    void reclaim(Clock::time_point deadline, bool others);
    bool fits_without_idle_slabs(std::size_t bytes, std::size_t headroom);
    static void free_retired(Clock::duration patience);

    // Under the lock:
    void collect_returned();
    void merge_ready();
    static bool is_idle(const HostSlab& slab) noexcept;
    void merge(HostNode* node);
    HostNode* add_slab(HostMemory::Allocation allocation, std::size_t bytes);
    void split(HostNode* node, std::size_t capacity);
    HostNode* lease(HostNode* node);

    const std::unique_ptr<HostMemory> memory_;
    const std::shared_ptr<PinnedBudget> budget_;
    const std::size_t headroom_;
    std::atomic<HostNode*> returned_{nullptr};
    std::atomic<std::size_t> held_{0};
    std::atomic<std::size_t> leased_{0};
    std::atomic<std::size_t> allocations_{0};
    std::atomic<std::size_t> refusals_{0};

    std::mutex mutex_;  // guards what follows; nothing that waits happens under it
    std::vector<std::unique_ptr<HostSlab>> slabs_;
    std::map<std::size_t, std::vector<HostNode*>> ready_;  // by capacity
    std::set<HostNode*, BySize> merged_;
};

}  // namespace tnb
