#include "slab_arena.h"

#include <algorithm>
#include <utility>

namespace tnb {

SlabArena::~SlabArena() {
    for (HostSlab* slab : slabs_) {
        for (HostNode* node = slab->first; node != nullptr;) delete std::exchange(node, node->after);
        delete slab;
    }
}

HostNode* SlabArena::take(std::size_t capacity, std::uint64_t before_fence) {
    const auto fits = [before_fence](const HostNode* node) { return node->returned_at < before_fence; };
    if (const auto same_size = ready_.find(capacity); same_size != ready_.end()) {
        for (HostNode** link = &same_size->second; *link != nullptr; link = &(*link)->next) {
            if (!fits(*link)) continue;
            HostNode* node = std::exchange(*link, (*link)->next);
            node->state = HostNode::State::leased;
            return node;
        }
    }
    merge_ready();
    HostNode wanted;
    wanted.capacity = capacity;
    const auto place = std::find_if(merged_.lower_bound(&wanted), merged_.end(), fits);
    if (place == merged_.end()) return nullptr;
    HostNode* node = *place;
    split(place, capacity);
    return node;
}

// Before anything is changed the new node is made and listed: either may throw.
void SlabArena::split(Merged::iterator place, std::size_t capacity) {
    HostNode* node = *place;
    if (node->capacity > capacity) {
        auto rest = std::make_unique<HostNode>();
        rest->data = node->data + capacity;
        rest->capacity = node->capacity - capacity;
        rest->pool = pool_;
        rest->slab = node->slab;
        rest->before = node;
        rest->after = node->after;
        rest->state = HostNode::State::merged;
        rest->returned_at = node->returned_at;
        merged_.insert(rest.get());
        merged_.erase(place);
        if (rest->after != nullptr) rest->after->before = rest.get();
        node->after = rest.release();
        node->capacity = capacity;
    } else {
        merged_.erase(place);
    }
    node->state = HostNode::State::leased;
}

HostNode* SlabArena::add(const HostMemory::Allocation& allocation, std::size_t bytes, std::size_t capacity) {
    slabs_.reserve(slabs_.size() + 1);
    auto slab = std::make_unique<HostSlab>();
    auto node = std::make_unique<HostNode>();
    slab->allocation = allocation;
    slab->bytes = bytes;
    slab->first = node.get();
    node->data = static_cast<char*>(allocation.data);
    node->capacity = bytes;
    node->pool = pool_;
    node->slab = slab.get();
    node->state = HostNode::State::merged;
    const auto place = merged_.insert(node.get()).first;
    try {
        split(place, capacity);
    } catch (...) {
        merged_.erase(place);
        throw;
    }
    slabs_.push_back(slab.release());
    return node.release();
}

void SlabArena::put(HostNode*& head) {
    while (head != nullptr) {
        HostNode* node = head;
        if (node->inherited) {
            head = node->next;
            node->state = HostNode::State::spent;
            continue;
        }
        HostNode*& ready = ready_.try_emplace(node->capacity, nullptr).first->second;
        head = node->next;
        node->next = std::exchange(ready, node);
        node->state = HostNode::State::ready;
    }
}

void SlabArena::merge_ready() {
    for (auto& [capacity, head] : ready_) {
        while (head != nullptr) {
            HostNode* next = head->next;  // the node itself may be absorbed by its neighbour
            merge(head);
            head = next;
        }
    }
    ready_.clear();
}

// The one place in merged_ that is needed is that of a merged neighbour, or a new one, which may throw.
void SlabArena::merge(HostNode* node) {
    const auto is_merged = [](const HostNode* other) {
        return other != nullptr && other->state == HostNode::State::merged;
    };
    const auto absorb = [](HostNode* left, HostNode* right) {
        left->capacity += right->capacity;
        left->returned_at = std::max(left->returned_at, right->returned_at);
        left->after = right->after;
        if (left->after != nullptr) left->after->before = left;
        delete right;
    };
    HostNode* before = is_merged(node->before) ? node->before : nullptr;
    HostNode* after = is_merged(node->after) ? node->after : nullptr;
    if (before == nullptr && after == nullptr) {
        merged_.insert(node);
        node->state = HostNode::State::merged;
        return;
    }
    auto place = merged_.extract(before != nullptr ? before : after);
    if (before != nullptr && after != nullptr) merged_.erase(after);
    if (after != nullptr) absorb(node, after);
    if (before != nullptr) {
        absorb(before, node);
        node = before;
    }
    node->state = HostNode::State::merged;
    place.value() = node;
    merged_.insert(std::move(place));
}

bool SlabArena::is_idle(const HostSlab& slab) noexcept {
    for (const HostNode* node = slab.first; node != nullptr; node = node->after) {
        if (node->state == HostNode::State::leased) return false;
    }
    return true;
}

std::size_t SlabArena::idle_bytes() {
    merge_ready();
    std::size_t idle = 0;
    for (const HostSlab* slab : slabs_) idle += is_idle(*slab) ? slab->bytes : 0;
    return idle;
}

std::vector<HostSlab> SlabArena::remove_idle() {
    merge_ready();
    std::vector<HostSlab> idle;
    idle.reserve(slabs_.size());
    std::erase_if(slabs_, [&](HostSlab* slab) {
        if (!is_idle(*slab)) return false;
        idle.push_back(*slab);
        for (HostNode* node = slab->first; node != nullptr;) {
            if (node->state == HostNode::State::merged) merged_.erase(node);
            delete std::exchange(node, node->after);
        }
        delete slab;
        return true;
    });
    return idle;
}

bool SlabArena::mark_inherited() noexcept {
    bool any = false;
    for (HostSlab* slab : slabs_) {
        for (HostNode* node = slab->first; node != nullptr; node = node->after) {
            if (node->state != HostNode::State::leased) continue;
            node->inherited = true;
            slab->inherited = true;
            any = true;
        }
    }
    return any;
}

// Leases come and go meanwhile, on any thread, so a block may be used for more than it has.
std::size_t SlabArena::retained_bytes() const noexcept {
    std::size_t bytes = 0;
    for (const HostSlab* slab : slabs_) {
        for (const HostNode* node = slab->first; node != nullptr; node = node->after) {
            if (node->state != HostNode::State::leased) continue;
            bytes += node->capacity - std::min(node->capacity, node->used.load(std::memory_order_relaxed));
        }
    }
    return bytes;
}

std::size_t SlabArena::inherited_bytes() const noexcept {
    std::size_t bytes = 0;
    for (const HostSlab* slab : slabs_) {
        for (const HostNode* node = slab->first; node != nullptr; node = node->after) {
            bytes += node->inherited ? node->capacity : 0;
        }
    }
    return bytes;
}

}  // namespace tnb
