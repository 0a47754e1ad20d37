// The pool of page-locked memory beside others: other pools of the budget, forked children, readers of the device, and
// too little memory for its own notes.

#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <new>

#include "bench.h"

namespace {

// How many allocations of this thread succeed from now on; negative: all.
thread_local int allocations_left = -1;

}  // namespace

void* operator new(std::size_t bytes) {
    if (allocations_left == 0) throw std::bad_alloc();
    if (allocations_left > 0) --allocations_left;
    if (void* memory = std::malloc(bytes)) return memory;
    throw std::bad_alloc();
}

void operator delete(void* memory) noexcept {
    std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
    std::free(memory);
}

namespace {

void a_slab_that_cannot_be_locked_is_tried_smaller() {
    Bench bench(1 << 20);
    HostBlock large = bench.pool->acquire(256 * kib);
    bench.memory->set_largest(64 * kib);
    HostBlock small = bench.pool->acquire(1000);  // half of what is held would be too much
    CHECK(small && bench.pool->stats().refusals == 0);
    CHECK(bench.budget->held() == 320 * kib);
    CHECK(!bench.pool->acquire(256 * kib) && bench.budget->held() == 320 * kib);
    drop(large, small);
    bench.check_all_given_back();
}

void an_unused_pool_of_the_same_budget_makes_room() {
    Bench bench(128 * kib);
    auto other = bench.make_pool();
    CHECK(other->acquire(100 * kib));
    CHECK(!bench.pool->acquire(100 * kib));  // it was used just now: a second chance
    CHECK(other->acquire(100 * kib));
    CHECK(!bench.pool->acquire(100 * kib));
    CHECK(bench.system.allocations == 1);
    CHECK(bench.pool->acquire(100 * kib));
    CHECK(other->stats().held_bytes == 0);
    other->retire();
    other.reset();
    bench.check_all_given_back();
}

void fork_and_wait() {
    const pid_t child = fork();
    if (child == 0) _exit(0);
    CHECK(child > 0 && waitpid(child, nullptr, 0) == child);
}

void what_is_leased_at_a_fork_is_not_handed_out_again() {
    Bench bench(64 * kib);
    HostBlock seen = bench.pool->acquire(4 * kib);
    const void* place = seen.data();
    CHECK(bench.pool->acquire(8 * kib));  // idle again at the fork: the child has no array over it
    fork_and_wait();
    CHECK(bench.pool->stats().inherited_bytes == 4 * kib);
    drop(seen);
    HostBlock same_size = bench.pool->acquire(4 * kib);
    CHECK(same_size.data() != place);
    CHECK(bench.pool->acquire(56 * kib));
    CHECK(!bench.pool->acquire(64 * kib));
    drop(same_size);
    CHECK(bench.pool->acquire(64 * kib));  // at the limit the slab is freed
    CHECK(bench.memory->inherited() == 1 && bench.pool->stats().inherited_bytes == 0);
    bench.memory->set_shared_with_children(false);
    HostBlock own = bench.pool->acquire(4 * kib);
    fork_and_wait();
    CHECK(bench.pool->stats().inherited_bytes == 0);
    drop(own);
    bench.check_all_given_back();
}

// What a child has seen goes by whole slabs, so there had better be many.
void slabs_stay_small_where_a_program_forks() {
    Bench bench(1 << 20);
    HostBlock seen = bench.pool->acquire(256 * kib);
    HostBlock before = bench.pool->acquire(128 * kib);
    CHECK(bench.budget->held() == 384 * kib);
    fork_and_wait();
    HostBlock after = bench.pool->acquire(64 * kib);
    CHECK(after && bench.budget->held() == 448 * kib);
    drop(seen, before, after);
    bench.check_all_given_back();
}

void the_host_gets_what_came_back_before_the_fence() {
    Bench bench(128 * kib);
    HostBlock read = bench.pool->acquire_for_host(4 * kib, HostPool::never_handed_out);
    const void* place = read.data();
    drop(read);
    const HostBlock fresh = bench.pool->acquire_for_host(4 * kib, HostPool::never_handed_out);
    CHECK(fresh && fresh.data() != place && bench.system.allocations == 2);
    const std::uint64_t fence = bench.pool->next_fence();
    HostBlock settled = bench.pool->acquire_for_host(64 * kib, fence);
    CHECK(settled.data() == place);
    drop(settled);  // behind the fence
    CHECK(!bench.pool->acquire_for_host(64 * kib, fence));
    CHECK(bench.pool->acquire(64 * kib).data() == place);
}

// Every allocation fails once: nothing is lost, and a second attempt finds all in order.
void no_memory_for_notes() {
    bool failed = true;
    for (int count = 0; failed; ++count) {
        Bench bench(256 * kib);
        HostBlock blocks[6];
        allocations_left = count;
        try {
            for (int turn = 0; turn < 2; ++turn) {
                for (int index = 0; index < 6; ++index) {
                    blocks[index] = bench.pool->acquire(static_cast<std::size_t>(index % 3 + 1) * 20 * kib);
                }
                for (const int index : {4, 1, 3, 0}) drop(blocks[index]);
                (void)bench.pool->stats();
                bench.pool->trim();
            }
            failed = false;
        } catch (const std::bad_alloc&) {
        }
        allocations_left = -1;
        CHECK(bench.pool->stats().leased_bytes <= bench.budget->held());
        for (HostBlock& block : blocks) drop(block);
        bench.check_all_given_back();
    }
}

}  // namespace

int main() {
    a_slab_that_cannot_be_locked_is_tried_smaller();
    an_unused_pool_of_the_same_budget_makes_room();
    what_is_leased_at_a_fork_is_not_handed_out_again();
    slabs_stay_small_where_a_program_forks();
    the_host_gets_what_came_back_before_the_fence();
    no_memory_for_notes();
    return 0;
}
