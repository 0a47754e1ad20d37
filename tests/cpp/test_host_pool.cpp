// The pool of page-locked memory without a device: rules one by one, then many threads at random.
//
//     test_host_pool SEED TURNS

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "bench.h"
#include "process.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#endif

namespace {

// A block whose bytes all say which one it is.
struct Piece {
    HostBlock block;
    std::size_t bytes = 0;
    unsigned char mark = 0;

    void fill() const { std::memset(block.data(), mark, bytes); }
    void check() const {
        const auto* data = static_cast<const unsigned char*>(block.data());
        for (std::size_t index = 0; index < bytes; ++index) CHECK(data[index] == mark);
    }
};

void a_block_is_handed_out_again_when_its_last_lease_is_gone() {
    Bench bench(1 << 20);
    HostBlock first = bench.pool->acquire(1000);
    void* data = first.data();
    HostBlock second = first.share(0);
    drop(first);
    CHECK(bench.pool->acquire(1000).data() != data);
    CHECK(bench.pool->stats().leased_bytes == kib);
    drop(second);
    HostBlock a = bench.pool->acquire(1000);
    HostBlock b = bench.pool->acquire(1000);
    CHECK(a.data() == data || b.data() == data);
    CHECK(bench.system.allocations == 1);
    drop(a, b);
    bench.check_all_given_back();
}

void blocks_are_aligned_and_apart() {
    Bench bench(1 << 20);
    std::vector<Piece> pieces;
    for (const std::size_t bytes : {0, 1, 127, 128, 129, 4096, 5000}) {
        pieces.push_back({bench.pool->acquire(bytes), bytes, static_cast<unsigned char>(pieces.size() + 1)});
        CHECK(reinterpret_cast<std::uintptr_t>(pieces.back().block.data()) % tnb::block_alignment == 0);
        pieces.back().fill();
    }
    for (const Piece& piece : pieces) piece.check();
    pieces.clear();
    bench.check_all_given_back();
}

void neighbours_become_one_piece() {
    Bench bench(64 * kib);
    for (const bool backwards : {false, true}) {
        std::vector<HostBlock> pieces;
        for (int index = 0; index < 16; ++index) pieces.push_back(bench.pool->acquire(4 * kib));
        CHECK(!bench.pool->acquire(4 * kib));
        while (!pieces.empty()) pieces.erase(backwards ? pieces.end() - 1 : pieces.begin());
        CHECK(bench.pool->acquire(64 * kib));
    }
    CHECK(bench.system.allocations == 1);
    bench.check_all_given_back();
}

void the_smallest_piece_that_fits_is_split() {
    Bench bench(64 * kib);
    HostBlock large = bench.pool->acquire(32 * kib);
    HostBlock wall = bench.pool->acquire(4 * kib);
    HostBlock small = bench.pool->acquire(8 * kib);
    HostBlock rest = bench.pool->acquire(20 * kib);
    void* place = small.data();
    drop(large);
    drop(small);
    HostBlock taken = bench.pool->acquire(6 * kib);
    CHECK(taken.data() == place);
    CHECK(bench.pool->acquire(32 * kib));
    drop(taken, wall, rest);
    bench.check_all_given_back();
}

void the_limit_is_kept() {
    Bench bench(128 * kib, /*headroom=*/64 * kib);
    HostBlock first = bench.pool->acquire(40 * kib);
    CHECK(first);
    CHECK(!bench.pool->acquire(40 * kib));  // the headroom is not for everybody
    CHECK(bench.pool->stats().refusals == 1);
    HostBlock reserved = bench.pool->acquire_reserved(40 * kib);
    CHECK(reserved);
    CHECK(bench.budget->held() == 128 * kib);
    drop(first);
    // What is idle but too small makes room for what is wanted, and no more is held for a moment.
    drop(reserved);
    CHECK(bench.pool->acquire_reserved(128 * kib));
    bench.check_all_given_back();
}

void what_could_not_make_room_is_kept() {
    Bench bench(256 * kib);
    HostBlock wall = bench.pool->acquire(64 * kib);
    CHECK(bench.pool->acquire(10 * kib));
    CHECK(bench.system.allocations == 2);
    CHECK(!bench.pool->acquire(256 * kib));
    CHECK(bench.pool->acquire(10 * kib));
    CHECK(bench.system.allocations == 2);
    drop(wall);
    CHECK(bench.pool->acquire(256 * kib));
    bench.check_all_given_back();
}

void memory_that_the_device_uses_stays_counted() {
    Bench bench(64 * kib);
    CHECK(bench.pool->acquire(1000));
    bench.memory->set_busy(true);
    bench.pool->trim();
    CHECK(bench.budget->held() == 64 * kib && bench.pool->stats().held_bytes == 64 * kib);
    CHECK(!bench.pool->acquire(1000));
    bench.memory->set_busy(false);
    CHECK(bench.pool->acquire(1000));
    bench.check_all_given_back();
}

void memory_that_is_refused_is_not_counted() {
    Bench bench(1 << 20);
    bench.memory->refuse_once();
    CHECK(!bench.pool->acquire(1000));
    CHECK(bench.budget->held() == 0 && bench.pool->stats().refusals == 1);
    CHECK(bench.pool->acquire(1000));
    bench.check_all_given_back();
}

void a_retired_pool_goes_with_its_last_lease() {
    Bench bench(1 << 20);
    HostBlock block = bench.pool->acquire(1000);
    bench.pool->retire();
    bench.pool = bench.make_pool();
    bench.pool->trim();
    CHECK(bench.budget->held() == FakeHostMemory::smallest_slab);
    std::memset(block.data(), 1, 1000);
    drop(block);
    bench.check_all_given_back();
}

// Where threads leave second leases for others.
struct Mailbox {
    std::mutex mutex;
    std::vector<Piece> pieces;
};

void act_at_random(HostPool& pool, Mailbox& mailbox, std::uint64_t seed, int turns) {
    std::mt19937_64 random(seed);
    std::lognormal_distribution<double> sizes(7.0, 1.0);
    std::vector<Piece> mine;
    for (int turn = 0; turn < turns; ++turn) {
        const std::uint64_t dice = random() % 100;
        if (dice < 50) {
            const auto bytes = static_cast<std::size_t>(sizes(random)) % (16 * kib) + 1;
            Piece piece{pool.acquire(bytes), bytes, static_cast<unsigned char>(random())};
            if (!piece.block) continue;
            piece.fill();
            mine.push_back(std::move(piece));
        } else if (dice < 60 && !mine.empty()) {
            Piece shared{mine.back().block.share(0), mine.back().bytes, mine.back().mark};
            const std::lock_guard<std::mutex> lock(mailbox.mutex);
            mailbox.pieces.push_back(std::move(shared));
        } else if (dice < 72) {
            Piece found;
            {
                const std::lock_guard<std::mutex> lock(mailbox.mutex);
                if (mailbox.pieces.empty()) continue;
                std::swap(mailbox.pieces[random() % mailbox.pieces.size()], mailbox.pieces.back());
                found = std::move(mailbox.pieces.back());
                mailbox.pieces.pop_back();
            }
            found.check();
        } else if (dice < 98 && !mine.empty()) {
            const std::size_t index = random() % mine.size();
            mine[index].check();
            std::swap(mine[index], mine.back());
            mine.pop_back();
        } else if (dice == 98) {
            pool.trim();
        } else {
            const tnb::PoolStats stats = pool.stats();
            CHECK(stats.leased_bytes <= stats.held_bytes);
        }
    }
    for (const Piece& piece : mine) piece.check();
}

void many_threads(std::uint64_t seed, int turns) {
    Bench bench(512 * kib, /*headroom=*/64 * kib);
    auto other = bench.make_pool();
    Mailbox mailbox;
    std::vector<std::thread> threads;
    for (std::uint64_t index = 0; index < 8; ++index) {
        HostPool& pool = index % 4 == 3 ? *other : *bench.pool;
        threads.emplace_back([&, index] { act_at_random(pool, mailbox, seed + index, turns); });
    }
    for (std::thread& thread : threads) thread.join();
    for (const Piece& piece : mailbox.pieces) piece.check();
    CHECK(bench.system.allocations > 2);
    mailbox.pieces.clear();
    other->trim();
    other->retire();
    bench.check_all_given_back();
}

void an_exiting_process_frees_nothing() {
#ifdef __SANITIZE_ADDRESS__
    const __lsan::ScopedDisabler leaks_are_what_this_is_about;
#endif
    FakeSystem system;
    auto memory = std::make_unique<FakeHostMemory>(system);
    memory->allow_leak();
    auto pool = HostPool::make(std::move(memory), std::make_shared<PinnedBudget>(1 << 20), 0);
    CHECK(pool->acquire(1000));
    tnb::note_process_exit();
    pool->trim();
    pool->retire();
    HostPool::trim_retired();
    CHECK(system.locked == FakeHostMemory::smallest_slab);
}

}  // namespace

int main(int count, char** arguments) {
    CHECK(count == 3);
    a_block_is_handed_out_again_when_its_last_lease_is_gone();
    blocks_are_aligned_and_apart();
    neighbours_become_one_piece();
    the_smallest_piece_that_fits_is_split();
    the_limit_is_kept();
    what_could_not_make_room_is_kept();
    memory_that_the_device_uses_stays_counted();
    memory_that_is_refused_is_not_counted();
    a_retired_pool_goes_with_its_last_lease();
    many_threads(std::strtoull(arguments[1], nullptr, 10), std::atoi(arguments[2]));
    an_exiting_process_frees_nothing();
    return 0;
}
