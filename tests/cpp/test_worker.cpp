// The worker without torch: many threads give jobs, wait, ask for sweeps, and drop workers that have jobs left,
// watch transfers; the system refuses a thread.
//
//     test_worker SEED TURNS

#include "worker.h"

#include <dlfcn.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <ctime>
#include <future>
#include <limits>
#include <memory>
#include <random>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "check.h"
#include "copy_lane.h"
#include "transfer.h"

namespace {

// Whether this thread is refused new ones.
thread_local bool no_thread_to_be_had = false;
// How long the last wait with an end was to be, of any thread, in nanoseconds; 0 for none.
std::atomic<std::int64_t> last_pause{0};

}  // namespace

// In front of the system's own, which it hands on to.
extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*start)(void*),
                              void* argument) {
    if (no_thread_to_be_had) return EAGAIN;
    static const auto next = reinterpret_cast<decltype(&pthread_create)>(dlsym(RTLD_NEXT, "pthread_create"));
    return next(thread, attributes, start, argument);
}

extern "C" int pthread_cond_clockwait(pthread_cond_t* condition, pthread_mutex_t* mutex, clockid_t clock,
                                      const timespec* end) {
    timespec now{};
    clock_gettime(clock, &now);
    last_pause = (end->tv_sec - now.tv_sec) * 1'000'000'000 + end->tv_nsec - now.tv_nsec;
    static const auto next =
        reinterpret_cast<decltype(&pthread_cond_clockwait)>(dlsym(RTLD_NEXT, "pthread_cond_clockwait"));
    return next(condition, mutex, clock, end);
}

namespace {

using tnb::Clock;
using tnb::CopyLane;
using tnb::Transfer;
using tnb::Worker;

Clock::time_point patience() {
    return Clock::now() + std::chrono::seconds(60);
}

void wait_for(const std::future<void>& done) {
    CHECK(done.wait_until(patience()) == std::future_status::ready);
}

void jobs_run_in_the_order_in_which_they_are_given() {
    Worker worker;
    std::vector<int> seen;  // by the one thread of the worker; read once it is idle
    for (int index = 0; index < 1000; ++index) worker.run([&seen, index] { seen.push_back(index); });
    CHECK(worker.wait_idle(patience()));
    CHECK(seen.size() == 1000);
    for (int index = 0; index < 1000; ++index) CHECK(seen[index] == index);
}

void a_worker_that_is_dropped_does_what_it_was_given() {
    auto done = std::make_shared<std::promise<void>>();
    const std::future<void> answer = done->get_future();
    std::promise<void> go;
    {
        Worker worker;
        worker.run([&go] { go.get_future().wait(); });
        worker.run([done] { done->set_value(); });
    }
    go.set_value();
    wait_for(answer);
}

void a_sweep_goes_on_until_nothing_is_in_flight() {
    Worker worker;
    CopyLane::instance().start_flights(20);
    worker.sweep_lanes();
    CHECK(tnb::wait_until(patience(), [] { return CopyLane::instance().idle(); }));
}

// In the order in which they asked, and none before its transfer is over.
void who_watches_is_told_once_it_is_over() {
    auto early = std::make_shared<Transfer>(), late = std::make_shared<Transfer>();
    std::promise<void> first_told;
    std::vector<int> told;  // by the one thread of the worker; read once it is idle
    {
        Worker worker;
        worker.watch(late, [&told] { told.push_back(3); });
        worker.watch(early, [&told] { told.push_back(1); });
        worker.watch(early, [&] {
            told.push_back(2);
            first_told.set_value();
        });
        early->end();
        wait_for(first_told.get_future());
        CHECK(told == std::vector<int>({1, 2}));
        CHECK(!worker.wait_idle(Clock::now()));
        late->end();
        CHECK(worker.wait_idle(patience()));
        CHECK(told == std::vector<int>({1, 2, 3}));
    }
}

// However long the worker has been idle, or has swept: on a busy machine in one of some tries.
void who_watches_anew_is_looked_after_at_once() {
    Worker worker;
    std::int64_t least = std::numeric_limits<std::int64_t>::max();
    for (int turn = 0; turn < 20; ++turn) {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));  // what a pause would be a share of
        last_pause = 0;
        auto transfer = std::make_shared<Transfer>();
        std::promise<void> told;
        worker.watch(transfer, [&told] { told.set_value(); });
        while (last_pause == 0) std::this_thread::yield();
        if (turn > 0) least = std::min<std::int64_t>(least, last_pause);  // a thread that has just begun was not idle
        transfer->end();
        wait_for(told.get_future());
    }
    CHECK(least < 250'000);
}

void a_worker_that_is_dropped_tells_who_watches() {
    auto transfer = std::make_shared<Transfer>();
    auto told = std::make_shared<std::promise<void>>();
    const std::future<void> answer = told->get_future();
    {
        Worker worker;
        worker.watch(transfer, [told] { told->set_value(); });
    }
    transfer->end();
    wait_for(answer);
}

void who_waits_on_the_worker_does_its_jobs() {
    Worker worker;
    auto transfer = std::make_shared<Transfer>();
    bool ran = false, idle = false;
    worker.watch(transfer, [&] {
        worker.run([&ran] { ran = true; });
        idle = worker.wait_idle(patience()) && ran;
    });
    CHECK(!Worker::is_this_thread());
    transfer->end();
    CHECK(worker.wait_idle(patience()));
    CHECK(idle);
}

// A job that is refused is not run, also not when there is a thread again.
void a_refused_thread_is_asked_for_again() {
    Worker worker;
    CopyLane::instance().start_flights(1);
    bool refused = false;
    no_thread_to_be_had = true;
    worker.sweep_lanes();
    try {
        worker.run([] { CHECK(false); });
    } catch (const std::system_error&) {
        refused = true;
    }
    no_thread_to_be_had = false;
    CHECK(refused && !CopyLane::instance().idle());
    bool ran = false;
    worker.run([&ran] { ran = true; });
    CHECK(worker.wait_idle(patience()) && ran);
    worker.sweep_lanes();
    CHECK(tnb::wait_until(patience(), [] { return CopyLane::instance().idle(); }));
}

// What jobs of one worker write without any lock: it has one thread, and wait_idle() shows what it did.
struct Diary {
    std::vector<std::uint64_t> entries;
};

void act_at_random(Worker& shared, Diary& of_shared, std::uint64_t seed, int turns) {
    std::mt19937_64 random(seed);
    for (int turn = 0; turn < turns; ++turn) {
        const std::uint64_t dice = random() % 100;
        if (dice < 70) {
            shared.run([&of_shared, seed] { of_shared.entries.push_back(seed); });
        } else if (dice < 80) {
            CopyLane::instance().start_flights(1);
            shared.sweep_lanes();
        } else if (dice < 85) {
            auto transfer = std::make_shared<Transfer>();
            shared.watch(transfer, [&of_shared, seed] { of_shared.entries.push_back(seed); });
            transfer->end();
        } else if (dice < 90) {
            shared.wait_idle(Clock::now());
        } else if (dice < 95) {
            Worker own;
            auto diary = std::make_shared<Diary>();
            own.run([diary, turn] { diary->entries.push_back(turn); });
            CHECK(own.wait_idle(patience()));
            CHECK(diary->entries.size() == 1);
        } else {
            Worker dropped;
            dropped.run([diary = std::make_shared<Diary>()] { diary->entries.push_back(0); });
        }
    }
}

void many_threads(std::uint64_t seed, int turns) {
    Worker shared;
    Diary diary;
    std::vector<std::thread> threads;
    for (std::uint64_t index = 0; index < 8; ++index) {
        threads.emplace_back([&, index] { act_at_random(shared, diary, seed + index, turns); });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK(shared.wait_idle(patience()));
    CHECK(diary.entries.size() > static_cast<std::size_t>(turns));
}

void an_exit_stops_a_worker_that_has_jobs_left() {
    Worker worker;
    std::promise<void> running;
    worker.run([&running] {
        running.set_value();
        tnb::wait_until(Clock::time_point::max(), [] { return !Worker::keep_going(); });
    });
    wait_for(running.get_future());
    worker.run([] { CHECK(false); });
    auto transfer = std::make_shared<Transfer>();
    worker.watch(transfer, [] { CHECK(false); });
    transfer->end();
    Worker::stop_all();
    CHECK(!Worker::keep_going());
}

}  // namespace

int main(int count, char** arguments) {
    CHECK(count == 3);
    jobs_run_in_the_order_in_which_they_are_given();
    a_worker_that_is_dropped_does_what_it_was_given();
    a_sweep_goes_on_until_nothing_is_in_flight();
    who_watches_is_told_once_it_is_over();
    who_watches_anew_is_looked_after_at_once();
    a_worker_that_is_dropped_tells_who_watches();
    who_waits_on_the_worker_does_its_jobs();
    a_refused_thread_is_asked_for_again();
    many_threads(std::strtoull(arguments[1], nullptr, 10), std::atoi(arguments[2]));
    an_exit_stops_a_worker_that_has_jobs_left();
    return 0;
}
