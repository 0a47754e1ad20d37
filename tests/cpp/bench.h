#pragma once

#include <cstddef>
#include <memory>
#include <utility>

#include "check.h"
#include "fake_host_memory.h"
#include "host_pool.h"

using tnb::HostBlock;
using tnb::HostPool;
using tnb::PinnedBudget;

constexpr std::size_t kib = 1024;

// A pool with a memory, a system and a budget of its own.
struct Bench {
    explicit Bench(std::size_t limit, std::size_t headroom = 0) : budget(std::make_shared<PinnedBudget>(limit)) {
        system.limit = limit;
        pool = make_pool(headroom);
    }

    ~Bench() {
        if (pool != nullptr) pool->retire();
        pool.reset();
        HostPool::trim_retired();
    }

    std::shared_ptr<HostPool> make_pool(std::size_t headroom = 0) {
        auto owned = std::make_unique<FakeHostMemory>(system);
        memory = owned.get();
        return HostPool::make(std::move(owned), budget, headroom);
    }

    void check_all_given_back() {
        pool->trim();
        HostPool::trim_retired();
        const tnb::PoolStats stats = pool->stats();
        CHECK(stats.held_bytes == 0 && stats.leased_bytes == 0 && stats.slabs == 0);
        CHECK(budget->held() == 0);
        CHECK(system.locked == 0);
    }

    FakeSystem system;
    std::shared_ptr<PinnedBudget> budget;
    FakeHostMemory* memory = nullptr;
    std::shared_ptr<HostPool> pool;
};

template <class... Blocks>
void drop(Blocks&... blocks) {
    (HostBlock(std::move(blocks)), ...);
}
