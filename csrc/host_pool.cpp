#include "host_pool.h"

#include <algorithm>

#include "process.h"

namespace tnb {

namespace {
// What trim() waits for is a stream that copies; one that waits for a producer may take as long as that does.
constexpr std::chrono::milliseconds patience_of_trim{100};
}  // namespace

struct HostSlab {
    HostMemory::Allocation allocation;
    std::size_t bytes = 0;
    HostNode* first = nullptr;
};

PoolStats& PoolStats::operator+=(const PoolStats& other) noexcept {
    held_bytes += other.held_bytes;
    leased_bytes += other.leased_bytes;
    slabs += other.slabs;
    allocations += other.allocations;
    refusals += other.refusals;
    return *this;
}

HostBlock::~HostBlock() {
    // acq_rel: whoever takes the block next must see everything that the other lease holders did with it.
    if (node_ != nullptr && node_->leases.fetch_sub(1, std::memory_order_acq_rel) == 1) {
        node_->pool->give_back(node_);
    }
}

HostPool::HostPool(std::unique_ptr<HostMemory> memory, std::shared_ptr<PinnedBudget> budget, std::size_t headroom)
    : memory_(std::move(memory)), budget_(std::move(budget)), headroom_(headroom) {}

HostPool::~HostPool() = default;

HostBlock HostPool::acquire(std::size_t bytes, std::size_t headroom) {
    const std::size_t capacity = (std::max<std::size_t>(bytes, 1) + alignment - 1) & ~(alignment - 1);
    HostNode* node = take(capacity);
    if (node == nullptr) node = grow(capacity, headroom);
    return node == nullptr ? HostBlock() : HostBlock(node);
}

HostNode* HostPool::take(std::size_t capacity) {
    const std::lock_guard<std::mutex> lock(mutex_);
    collect_returned();
    const auto same_size = ready_.find(capacity);
    if (same_size != ready_.end() && !same_size->second.empty()) {
        HostNode* node = same_size->second.back();
        same_size->second.pop_back();
        return lease(node);
    }
    merge_ready();
    HostNode wanted;
    wanted.capacity = capacity;
    const auto fitting = merged_.lower_bound(&wanted);
    if (fitting == merged_.end()) return nullptr;
    HostNode* node = *fitting;
    split(node, capacity);
    return lease(node);
}

// Before anything is changed the new node is made and listed: either may throw.
void HostPool::split(HostNode* node, std::size_t capacity) {
    if (node->capacity > capacity) {
        auto rest = std::make_unique<HostNode>();
        rest->data = node->data + capacity;
        rest->capacity = node->capacity - capacity;
        rest->pool = this;
        rest->slab = node->slab;
        rest->before = node;
        rest->after = node->after;
        rest->state = HostNode::State::merged;
        merged_.insert(rest.get());
        merged_.erase(node);
        if (rest->after != nullptr) rest->after->before = rest.get();
        node->after = rest.release();
        node->capacity = capacity;
    } else {
        merged_.erase(node);
    }
}

HostNode* HostPool::lease(HostNode* node) {
    node->state = HostNode::State::leased;
    leased_.fetch_add(node->capacity, std::memory_order_relaxed);
    return node;
}

HostNode* HostPool::grow(std::size_t capacity, std::size_t headroom) {
    free_retired(Clock::duration::zero());
    std::size_t bytes = memory_->slab_bytes(capacity, held_.load(std::memory_order_relaxed));
    if (!budget_->reserve(bytes, headroom)) {
        // Near the limit: no room for growth to come, then none for what is idle but of no use here. What is idle is
        // not given up for a block that could not be had all the same: it would be missed the next turn.
        bytes = memory_->slab_bytes(capacity, 0);
        reclaim(Clock::now(), false);
        if (!budget_->reserve(bytes, headroom)) {
            if (fits_without_idle_slabs(bytes, headroom)) {
                free_idle_slabs();
                reclaim(Clock::now(), false);
            }
            if (!budget_->reserve(bytes, headroom)) {
                refusals_.fetch_add(1, std::memory_order_relaxed);
                return nullptr;
            }
        }
    }
    HostMemory::Allocation allocation;
    try {
        allocation = memory_->allocate(bytes);
    } catch (const std::exception&) {
        // Memory that cannot be locked is like a limit that is reached: the copy takes the route that needs none.
        budget_->release(bytes);
        refusals_.fetch_add(1, std::memory_order_relaxed);
        return nullptr;
    }
    held_.fetch_add(bytes, std::memory_order_relaxed);
    allocations_.fetch_add(1, std::memory_order_relaxed);
    const std::lock_guard<std::mutex> lock(mutex_);
    HostNode* node = add_slab(allocation, bytes);
    split(node, capacity);
    return lease(node);
}

HostNode* HostPool::add_slab(HostMemory::Allocation allocation, std::size_t bytes) {
    auto slab = std::make_unique<HostSlab>();
    auto* node = new HostNode;
    slab->allocation = allocation;
    slab->bytes = bytes;
    slab->first = node;
    node->data = static_cast<char*>(allocation.data);
    node->capacity = bytes;
    node->pool = this;
    node->slab = slab.get();
    node->state = HostNode::State::merged;
    merged_.insert(node);
    slabs_.push_back(std::move(slab));
    return node;
}

void HostPool::give_back(HostNode* node) noexcept {
    // Takers take the whole list at once, so a node cannot leave and return between the load and the exchange (no ABA).
    HostNode* head = returned_.load(std::memory_order_relaxed);
    do {
        node->next = head;
    } while (!returned_.compare_exchange_weak(head, node, std::memory_order_release, std::memory_order_relaxed));
}

void HostPool::collect_returned() {
    HostNode* node = returned_.exchange(nullptr, std::memory_order_acquire);
    while (node != nullptr) {
        HostNode* next = node->next;
        node->state = HostNode::State::ready;
        leased_.fetch_sub(node->capacity, std::memory_order_relaxed);
        ready_[node->capacity].push_back(node);
        node = next;
    }
}

void HostPool::merge_ready() {
    for (auto& [capacity, nodes] : ready_) {
        for (HostNode* node : nodes) merge(node);
    }
    ready_.clear();
}

void HostPool::merge(HostNode* node) {
    const auto absorb = [](HostNode* left, HostNode* right) {
        left->capacity += right->capacity;
        left->after = right->after;
        if (left->after != nullptr) left->after->before = left;
        delete right;
    };
    if (HostNode* before = node->before; before != nullptr && before->state == HostNode::State::merged) {
        merged_.erase(before);
        absorb(before, node);
        node = before;
    }
    if (HostNode* after = node->after; after != nullptr && after->state == HostNode::State::merged) {
        merged_.erase(after);
        absorb(node, after);
    }
    node->state = HostNode::State::merged;
    merged_.insert(node);
}

bool HostPool::is_idle(const HostSlab& slab) noexcept {
    return slab.first->state == HostNode::State::merged && slab.first->after == nullptr;
}

bool HostPool::fits_without_idle_slabs(std::size_t bytes, std::size_t headroom) {
    const std::lock_guard<std::mutex> lock(mutex_);
    collect_returned();
    merge_ready();
    std::size_t idle = 0;
    for (const auto& slab : slabs_) idle += is_idle(*slab) ? slab->bytes : 0;
    return budget_->held() - idle + bytes + headroom <= budget_->limit();
}

void HostPool::free_idle_slabs() {
    std::vector<std::unique_ptr<HostSlab>> idle;
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        collect_returned();
        merge_ready();
        const auto first_idle =
            std::partition(slabs_.begin(), slabs_.end(), [](const auto& slab) { return !is_idle(*slab); });
        std::move(first_idle, slabs_.end(), std::back_inserter(idle));
        slabs_.erase(first_idle, slabs_.end());
        for (const auto& slab : idle) merged_.erase(slab->first);
    }
    for (const auto& slab : idle) {
        memory_->deallocate(slab->allocation, slab->bytes);
        delete slab->first;
    }
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
    return {held_.load(), leased_.load(), slabs_.size(), allocations_.load(), refusals_.load()};
}

namespace {

struct Retired {
    std::mutex mutex;
    std::vector<std::unique_ptr<HostPool>> pools;
};

// Leaked: at exit its pools may still have leases out.
Retired& retired() {
    static auto* instance = new Retired;
    return *instance;
}

}  // namespace

void HostPool::retire(std::unique_ptr<HostPool> pool) {
    const std::lock_guard<std::mutex> lock(retired().mutex);
    retired().pools.push_back(std::move(pool));
}

void HostPool::trim_retired() {
    if (!process_is_exiting()) free_retired(patience_of_trim);
}

void HostPool::free_retired(Clock::duration patience) {
    std::vector<std::unique_ptr<HostPool>> candidates;
    {
        const std::lock_guard<std::mutex> lock(retired().mutex);
        candidates.swap(retired().pools);
    }
    for (auto& pool : candidates) {
        pool->free_idle_slabs();
        pool->reclaim(Clock::now() + patience, false);
        if (pool->held_.load(std::memory_order_relaxed) == 0) continue;
        const std::lock_guard<std::mutex> lock(retired().mutex);
        retired().pools.push_back(std::move(pool));
    }
}

}  // namespace tnb
