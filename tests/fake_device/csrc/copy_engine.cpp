#include "copy_engine.h"

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <list>
#include <mutex>
#include <thread>
#include <vector>

#include "capture.h"
#include "counters.h"
#include "device.h"
#include "failures.h"
#include "host_memory.h"
#include "latch.h"
#include "memory.h"

namespace fake {
namespace {

enum Direction { to_host, to_device };

std::atomic<double> bytes_per_second{0};
std::atomic<double> seconds_per_copy{0};

std::mutex& engine(int device, Direction direction) {
    static auto* leaked = new std::array<std::array<std::mutex, 2>, max_devices>();
    return (*leaked)[device][direction];
}

// The page-locked bytes that copies to the device have yet to read.
class PendingReads {
public:
    using Read = std::list<std::pair<const char*, size_t>>::iterator;

    Read begin(const void* from, size_t bytes) {
        const std::lock_guard lock(mutex_);
        return reads_.insert(reads_.end(), {static_cast<const char*>(from), bytes});
    }
    void end(Read read) {
        const std::lock_guard lock(mutex_);
        reads_.erase(read);
    }
    bool overlap(const void* to, size_t bytes) {
        const auto* start = static_cast<const char*>(to);
        const std::lock_guard lock(mutex_);
        for (const auto& [from, size] : reads_) {
            if (from < start + bytes && start < from + size) {
                return true;
            }
        }
        return false;
    }

private:
    std::mutex mutex_;
    std::list<std::pair<const char*, size_t>> reads_;
};

PendingReads& pending_reads() {
    static auto* leaked = new PendingReads();
    return *leaked;
}

// `move` touches memory; what precedes it only waits.
void carry_out(int device, Direction direction, size_t bytes, const std::function<void()>& move) {
    wait_at_copy_gate();
    const std::lock_guard turn(engine(device, direction));
    const double bandwidth = bytes_per_second.load();
    const double cost = seconds_per_copy.load() + (bandwidth > 0 ? static_cast<double>(bytes) / bandwidth : 0.0);
    if (cost > 0) {
        std::this_thread::sleep_for(std::chrono::duration<double>(cost));
    }
    const Execution execution;
    move();
}

void wait_on_host(Call call, Stream& stream) {
    check_not_captured(call, stream);  // another thread may have begun that since the copy was submitted
    const auto end = stream.mark();
    count(stream.device(), Count::copies_synchronous);
    end->wait_on_host();
    check_context();
}

bool captured(const Stream& stream) {
    return capture_status(stream.device(), stream.id()) != CaptureStatus::none;
}

void check_wait(Call call, const Stream& stream) {
    check_not_captured(call, stream);
    check_safe(call);
}

void poison(void* to, size_t bytes) {
    std::memset(to, pending_host_poison, bytes);
}

}  // namespace

void set_copy_cost(double bandwidth, double latency) {
    bytes_per_second.store(bandwidth);
    seconds_per_copy.store(latency);
}

void submit_to_host(Stream& stream, void* to, const void* from, size_t bytes, bool non_blocking) {
    check_not_forked();
    check(Call::copy_d2h);
    const bool waits = !non_blocking || !is_page_locked(to, bytes);
    if (waits) {
        check_wait(Call::copy_d2h, stream);
    }
    const bool broken = takes_failure(Call::copy_d2h_async);
    const int device = stream.device();
    count(device, Count::copies_d2h);
    count(device, Count::bytes_d2h, static_cast<int64_t>(bytes));
    if (captured(stream)) {
        // Nothing is written before the graph is launched.
    } else if (pending_reads().overlap(to, bytes)) {
        stream.enqueue_own([to, bytes] {
            const Execution execution;
            poison(to, bytes);
        });
    } else {
        poison(to, bytes);
    }
    const char* source = worker_address(from);
    stream.enqueue([=] {
        carry_out(device, to_host, bytes, [=] {
            if (broken) {
                end_context("copy_d2h_async");
            } else {
                std::memcpy(to, source, bytes);
            }
        });
    });
    if (waits) {
        wait_on_host(Call::copy_d2h, stream);
    }
}

void submit_to_device(Stream& stream, void* to, const void* from, size_t bytes, bool non_blocking) {
    check_not_forked();
    check(Call::copy_h2d);
    if (!non_blocking) {
        check_wait(Call::copy_h2d, stream);
    }
    const bool broken = takes_failure(Call::copy_h2d_async);
    const int device = stream.device();
    count(device, Count::copies_h2d);
    count(device, Count::bytes_h2d, static_cast<int64_t>(bytes));
    char* target = worker_address(to);
    const auto move = [=](const void* source) {
        if (broken) {
            end_context("copy_h2d_async");
        } else {
            std::memcpy(target, source, bytes);
        }
    };
    if (captured(stream) && is_page_locked(from, bytes)) {
        stream.enqueue([=] { carry_out(device, to_device, bytes, [&] { move(from); }); });
    } else if (is_page_locked(from, bytes)) {
        const auto read = pending_reads().begin(from, bytes);
        stream.enqueue([=] {
            carry_out(device, to_device, bytes, [&] { move(from); });
            pending_reads().end(read);
        });
    } else {
        const auto* first = static_cast<const char*>(from);
        const auto staged = std::make_shared<std::vector<char>>(first, first + bytes);
        stream.enqueue([=] { carry_out(device, to_device, bytes, [&] { move(staged->data()); }); });
    }
    if (!non_blocking) {
        wait_on_host(Call::copy_h2d, stream);
    }
}

void submit_on_device(Stream& stream, Stream& other, size_t bytes, std::function<void()> move) {
    check_not_forked();
    check(Call::copy_d2d);
    count(stream.device(), Count::copies_d2d);
    count(stream.device(), Count::bytes_d2d, static_cast<int64_t>(bytes));
    if (&other != &stream) {
        stream.wait_for(other.point());
    }
    stream.enqueue([move = std::move(move)] {
        const Execution execution;
        move();
    });
    if (&other != &stream) {
        other.wait_for(stream.point());
    }
}

}  // namespace fake
