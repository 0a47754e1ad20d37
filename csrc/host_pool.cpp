#include "host_pool.h"

#include <pthread.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "process.h"

namespace tnb {

namespace {
// What trim() waits for is a stream that copies; one that waits for a producer may take as long as that does.
constexpr std::chrono::milliseconds patience_of_trim{100};
// Room at the limit costs no more than page-locking it does.
constexpr std::chrono::milliseconds patience_of_growth{2};
// No number of any dtype that anybody expects; which one it is stands in docs/debug.md.
constexpr int poison_byte = 0xD5;
}  // namespace

PoolStats& PoolStats::operator+=(const PoolStats& other) noexcept {
    held_bytes += other.held_bytes;
    leased_bytes += other.leased_bytes;
    retained_bytes += other.retained_bytes;
    inherited_bytes += other.inherited_bytes;
    slabs += other.slabs;
    allocations += other.allocations;
    refusals += other.refusals;
    return *this;
}

HostBlock::~HostBlock() {
    if (node_ == nullptr) return;
    node_->used.fetch_sub(used_, std::memory_order_relaxed);
    // acq_rel: whoever takes the block next must see everything that the other lease holders did with it.
    if (node_->leases.fetch_sub(1, std::memory_order_acq_rel) == 1) node_->pool->give_back(node_);
}

c10::DeviceType HostBlock::device_type() const noexcept {
    return node_->pool->memory_->device_type();
}

struct HostPool::Registry {
    std::mutex mutex;
    std::vector<std::shared_ptr<HostPool>> pools;
};

// Leaked: at exit pools may still have leases out.
HostPool::Registry& HostPool::registry() {
    static auto* instance = [] {
        pthread_atfork(before_fork, after_fork_in_parent, after_fork);
        return new Registry;
    }();
    return *instance;
}

std::shared_ptr<HostPool> HostPool::make(std::unique_ptr<HostMemory> memory, std::shared_ptr<PinnedBudget> budget,
                                         std::size_t headroom, bool poison) {
    const std::shared_ptr<HostPool> pool(new HostPool(std::move(memory), std::move(budget), headroom, poison));
    const std::lock_guard<std::mutex> lock(registry().mutex);
    registry().pools.push_back(pool);
    return pool;
}

std::vector<std::shared_ptr<HostPool>> HostPool::all() {
    const std::lock_guard<std::mutex> lock(registry().mutex);
    return registry().pools;
}

// From the marks to the end of the fork no block changes hands, so the child inherits none that is not marked.
void HostPool::before_fork() noexcept {
    registry().mutex.lock();
    for (const auto& pool : registry().pools) {
        pool->mutex_.lock();
        try {
            pool->collect_returned();
        } catch (const std::bad_alloc&) {
            // What was not collected counts as leased: it is lost to further use, no more.
        }
        if (!pool->memory_->shared_with_children()) {
            pool->set_idle_inheritable(false);
        } else if (pool->arena_.mark_inherited()) {
            pool->inherited_.store(true, std::memory_order_relaxed);
        }
    }
}

// As it was before the fork: no block has changed hands since.
void HostPool::after_fork_in_parent() noexcept {
    for (const auto& pool : registry().pools) {
        if (!pool->memory_->shared_with_children()) pool->set_idle_inheritable(true);
    }
    after_fork();
}

void HostPool::set_idle_inheritable(bool inheritable) noexcept {
    // In a child that forks in its turn, something else may lie where the memory was.
    if (process_is_forked_child()) return;
    arena_.for_each_idle(
        [&](const HostSlab& slab) { memory_->set_inheritable(slab.allocation, slab.bytes, inheritable); });
}

void HostPool::after_fork() noexcept {
    for (const auto& pool : registry().pools) pool->mutex_.unlock();
    registry().mutex.unlock();
}

HostBlock HostPool::acquire(std::size_t bytes, Terms terms) {
    const std::size_t capacity = block_bytes(std::max<std::size_t>(bytes, 1));
    used_.store(true, std::memory_order_relaxed);
    HostNode* node = take(capacity, terms.before_fence);
    if (node == nullptr) node = grow(capacity, terms);
    if (node == nullptr) return {};
    leased_.fetch_add(node->capacity, std::memory_order_relaxed);
    return HostBlock(node);
}

HostNode* HostPool::take(std::size_t capacity, std::uint64_t before_fence) {
    const std::lock_guard<std::mutex> lock(mutex_);
    collect_returned();
    return arena_.take(capacity, before_fence);
}

HostNode* HostPool::grow(std::size_t capacity, Terms terms) {
    free_retired(Clock::duration::zero());
    std::size_t bytes = reserve(capacity, terms);
    const HostMemory::Allocation allocation =
        bytes == 0 ? HostMemory::Allocation{} : allocate(bytes, memory_->slab_bytes(capacity, 0));
    if (allocation.data == nullptr) {
        refusals_.fetch_add(1, std::memory_order_relaxed);
        return nullptr;
    }
    held_.fetch_add(bytes, std::memory_order_relaxed);
    allocations_.fetch_add(1, std::memory_order_relaxed);
    return add(allocation, bytes, capacity);
}

std::size_t HostPool::reserve(std::size_t capacity, Terms terms) {
    const std::size_t bytes = memory_->slab_bytes(capacity, 0);
    // Room for growth to come; but what a child has seen goes by whole slabs, so those of a program that forks with
    // live arrays stay small.
    const bool forks = inherited_.load(std::memory_order_relaxed);
    const std::size_t ample = forks ? bytes : memory_->slab_bytes(capacity, held_.load(std::memory_order_relaxed));
    if (budget_->reserve(ample, terms.headroom)) return ample;
    // Near the limit: no such room, then none for what is idle but of no use here.
    reclaim(Clock::now(), false);
    return budget_->reserve(bytes, terms.headroom) || make_room(bytes, terms) ? bytes : 0;
}

// What is idle is not given up for a block that could not be had all the same: it would be missed the next turn.
bool HostPool::make_room(std::size_t bytes, Terms terms) {
    if (terms.room == Room::none) return false;
    const auto others = terms.room == Room::shared ? unused_pools() : std::vector<std::shared_ptr<HostPool>>();
    std::size_t idle = idle_bytes();
    for (const auto& pool : others) idle += pool->idle_bytes();
    const std::size_t held = budget_->held();
    if (held - std::min(held, idle) + bytes + terms.headroom > budget_->limit()) return false;
    const auto raid = [&](HostPool& pool) {
        pool.free_idle_slabs();
        pool.reclaim(Clock::now() + patience_of_growth, false);
        return budget_->reserve(bytes, terms.headroom);
    };
    return raid(*this) || std::any_of(others.begin(), others.end(), [&](const auto& pool) { return raid(*pool); });
}

// The pools of the same budget that were not used since this was last asked: one that is used has a second chance (the
// clock algorithm; Corbató 1968), so that no slab goes back and forth between two of them.
std::vector<std::shared_ptr<HostPool>> HostPool::unused_pools() {
    std::vector<std::shared_ptr<HostPool>> pools = all();
    std::erase_if(pools, [this](const auto& pool) {
        return pool.get() == this || pool->budget_ != budget_ || pool->used_.exchange(false, std::memory_order_relaxed);
    });
    return pools;
}

// Memory that cannot be locked is like a limit that is reached: the copy takes the route that needs none.
HostMemory::Allocation HostPool::allocate(std::size_t& bytes, std::size_t smallest) noexcept {
    for (;;) {
        try {
            return memory_->allocate(bytes);
        } catch (...) {
            const std::size_t less = std::min(bytes, smallest);
            budget_->release(less == bytes ? bytes : bytes - less);
            if (less == bytes) return {};
            bytes = less;
        }
    }
}

HostNode* HostPool::add(const HostMemory::Allocation& allocation, std::size_t bytes, std::size_t capacity) {
    try {
        const std::lock_guard<std::mutex> lock(mutex_);
        return arena_.add(allocation, bytes, capacity);
    } catch (...) {
        memory_->deallocate(allocation, bytes, /*inherited=*/false);
        throw;
    }
}

void HostPool::give_back(HostNode* node) noexcept {
    node->returned_at = fences_.load(std::memory_order_acquire);
    // Takers take the whole list at once, so a node cannot leave and return between the load and the exchange (no ABA).
    HostNode* head = returned_.load(std::memory_order_relaxed);
    do {
        node->next = head;
    } while (!returned_.compare_exchange_weak(head, node, std::memory_order_release, std::memory_order_relaxed));
}

void HostPool::collect_returned() {
    HostNode* head = returned_.exchange(nullptr, std::memory_order_acquire);
    for (const HostNode* node = head; node != nullptr; node = node->next) {
        leased_.fetch_sub(node->capacity, std::memory_order_relaxed);
        // Not before, where nobody knows yet whether a forked child has an array there.
        if (poison_ && !node->inherited) std::memset(node->data, poison_byte, node->capacity);
    }
    try {
        arena_.put(head);
    } catch (...) {
        while (head != nullptr) {
            HostNode* node = std::exchange(head, head->next);
            leased_.fetch_add(node->capacity, std::memory_order_relaxed);
            give_back(node);
        }
        throw;
    }
}

std::size_t HostPool::idle_bytes() {
    const std::lock_guard<std::mutex> lock(mutex_);
    collect_returned();
    return arena_.idle_bytes();
}

void HostPool::free_idle_slabs() {
    std::vector<HostSlab> idle;
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        collect_returned();
        idle = arena_.remove_idle();
    }
    for (const HostSlab& slab : idle) memory_->deallocate(slab.allocation, slab.bytes, slab.inherited);
}

void HostPool::reclaim(Clock::time_point deadline, bool others) {
    const std::size_t gone = memory_->reclaim(deadline, others);
    held_.fetch_sub(gone, std::memory_order_relaxed);
    budget_->release(gone);
}

void HostPool::trim() {
    if (process_is_exiting()) return;
    free_idle_slabs();
    reclaim(Clock::now() + patience_of_trim, true);
}

PoolStats HostPool::stats() {
    const std::lock_guard<std::mutex> lock(mutex_);
    collect_returned();
    return {held_.load(),   leased_.load(),      arena_.retained_bytes(), arena_.inherited_bytes(),
            arena_.slabs(), allocations_.load(), refusals_.load()};
}

void HostPool::trim_retired() {
    if (!process_is_exiting()) free_retired(patience_of_trim);
}

void HostPool::free_retired(Clock::duration patience) {
    std::vector<std::shared_ptr<HostPool>> retired = all();
    std::erase_if(retired, [](const auto& pool) { return !pool->retired_.load(std::memory_order_acquire); });
    if (retired.empty()) return;
    for (const auto& pool : retired) {
        pool->free_idle_slabs();
        pool->reclaim(Clock::now() + patience, false);
    }
    retired.clear();
    // A pool that a worker still has may be asked for a ring yet. Others get a share of one only under this lock.
    const std::lock_guard<std::mutex> lock(registry().mutex);
    std::erase_if(registry().pools, [](const auto& pool) {
        return pool.use_count() == 1 && pool->retired_.load(std::memory_order_acquire) &&
               pool->held_.load(std::memory_order_relaxed) == 0;
    });
}

}  // namespace tnb
