#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "host_block.h"
#include "host_memory.h"

namespace tnb {

struct HostSlab {
    HostMemory::Allocation allocation;
    std::size_t bytes = 0;
    HostNode* first = nullptr;
    bool inherited = false;  // a forked child sees some of it
};

// The slabs of a pool and the pieces that they are cut into. Bookkeeping only: knows no device, no limit and no lock;
// the pool calls it under its own.
//
// Idle pieces of the very size asked for are taken first, so a loop with stable shapes gets the same blocks each turn;
// else neighbours are merged and the smallest piece that fits is split (best fit with boundary tags; Knuth, TAOCP 1,
// 2.5).
//
// What allocates may throw std::bad_alloc, and then has changed nothing that a second attempt would miss.
class SlabArena {
public:
    static constexpr std::uint64_t any_time = std::numeric_limits<std::uint64_t>::max();

    explicit SlabArena(HostPool* pool) : pool_(pool) {}
    SlabArena(const SlabArena&) = delete;
    SlabArena& operator=(const SlabArena&) = delete;
    // Frees nothing but its own notes.
    ~SlabArena();

    // An idle piece of `capacity` bytes that came back before the fence of that number, or nullptr.
    HostNode* take(std::size_t capacity, std::uint64_t before_fence);
    // A new slab; the first piece of `capacity` bytes is taken.
    HostNode* add(const HostMemory::Allocation& allocation, std::size_t bytes, std::size_t capacity);
    // A list of nodes, linked by `next`, is idle again. Where it throws, `head` is what is left of it.
    void put(HostNode*& head);

    std::size_t idle_bytes();
    // The slabs without a lease, which are forgotten here.
    std::vector<HostSlab> remove_idle();
    // Calls `visit` with each slab without a lease; allocates nothing.
    template <class Visit>
    void for_each_idle(Visit&& visit) const noexcept {
        for (const HostSlab* slab : slabs_) {
            if (is_idle(*slab)) visit(*slab);
        }
    }
    // What is leased now is never handed out again. Whether that is anything.
    bool mark_inherited() noexcept;

    std::size_t slabs() const noexcept { return slabs_.size(); }
    std::size_t retained_bytes() const noexcept;
    std::size_t inherited_bytes() const noexcept;

private:
    struct BySize {
        bool operator()(const HostNode* a, const HostNode* b) const noexcept {
            return a->capacity != b->capacity ? a->capacity < b->capacity : a->data < b->data;
        }
    };
    using Merged = std::set<HostNode*, BySize>;

    void merge_ready();
    void merge(HostNode* node);
    void split(Merged::iterator place, std::size_t capacity);
    static bool is_idle(const HostSlab& slab) noexcept;

    HostPool* const pool_;
    std::vector<HostSlab*> slabs_;
    std::map<std::size_t, HostNode*> ready_;  // by capacity, linked by `next`
    Merged merged_;
};

}  // namespace tnb
