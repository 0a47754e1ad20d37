#include "host_memory.h"

#include <sys/mman.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>

#include <c10/util/Exception.h>

#include "capture.h"
#include "counters.h"
#include "device.h"
#include "failures.h"
#include "stream.h"

namespace fake {
namespace {

struct Range {
    size_t bytes;
    bool driver_owned;
};

struct Ranges {
    std::mutex mutex;
    std::map<uintptr_t, Range> by_start;
};

Ranges& ranges() {
    static auto* leaked = new Ranges();
    return *leaked;
}

std::atomic<bool> shared_with_children{true};
std::atomic<bool> waits_for_streams{false};

void enter(Call call) {
    check_not_forked();
    check(call);
    check_safe(call);
    if (waits_for_streams.load()) {
        count(host_index, Count::host_memory_waits);
        block_on_all_devices();
        check_context();
    }
}

// The range that begins at or before the address; the caller holds the mutex.
std::map<uintptr_t, Range>::iterator at_or_before(Ranges& r, uintptr_t address) {
    auto next = r.by_start.upper_bound(address);
    return next == r.by_start.begin() ? r.by_start.end() : std::prev(next);
}

bool overlaps(Ranges& r, uintptr_t start, size_t bytes) {
    const auto before = at_or_before(r, start);
    if (before != r.by_start.end() && before->first + before->second.bytes > start) {
        return true;
    }
    const auto after = r.by_start.lower_bound(start);
    return after != r.by_start.end() && after->first < start + bytes;
}

}  // namespace

void* allocate_host(size_t bytes) {
    // As torch does for CUDA: any context will do.
    if (context_count() == 0) {
        use_device(driver_device());
    }
    enter(Call::host_alloc);
    const int sharing = shared_with_children.load() ? MAP_SHARED : MAP_PRIVATE;
    void* address = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | sharing, -1, 0);
    TORCH_CHECK(address != MAP_FAILED, "fake device: the system refused ", bytes, " bytes of host memory");
    Ranges& r = ranges();
    const std::lock_guard lock(r.mutex);
    r.by_start[reinterpret_cast<uintptr_t>(address)] = {bytes, true};
    count(host_index, Count::host_allocations);
    count(host_index, Count::host_bytes_live, static_cast<int64_t>(bytes));
    return address;
}

void free_host(void* address) {
    enter(Call::host_free);
    Ranges& r = ranges();
    const std::lock_guard lock(r.mutex);
    const auto found = r.by_start.find(reinterpret_cast<uintptr_t>(address));
    TORCH_CHECK(found != r.by_start.end() && found->second.driver_owned,
                "expected memory that the fake device's driver allocated; pages locked in place are unlocked instead");
    const size_t bytes = found->second.bytes;
    r.by_start.erase(found);
    munmap(address, bytes);
    count(host_index, Count::host_frees);
    count(host_index, Count::host_bytes_live, -static_cast<int64_t>(bytes));
}

void share_host_memory_with_children(bool shared) {
    shared_with_children.store(shared);
}

void host_memory_waits_for_streams(bool waits) {
    waits_for_streams.store(waits);
}

void lock_pages(void* address, size_t bytes) {
    TORCH_CHECK(address != nullptr && bytes > 0, "expected a range of host memory to lock, got ", bytes, " bytes at ",
                address);
    use_device(driver_device());
    enter(Call::lock_pages);
    Ranges& r = ranges();
    const std::lock_guard lock(r.mutex);
    TORCH_CHECK(!overlaps(r, reinterpret_cast<uintptr_t>(address), bytes),
                "expected pages that are not locked yet, got ", bytes, " bytes at ", address, "; unlock them first");
    r.by_start[reinterpret_cast<uintptr_t>(address)] = {bytes, false};
    count(host_index, Count::locked_pages_bytes, static_cast<int64_t>(bytes));
}

void unlock_pages(void* address) {
    enter(Call::unlock_pages);
    Ranges& r = ranges();
    const std::lock_guard lock(r.mutex);
    const auto found = r.by_start.find(reinterpret_cast<uintptr_t>(address));
    TORCH_CHECK(found != r.by_start.end() && !found->second.driver_owned,
                "expected the address of pages that were locked in place, got ", address);
    count(host_index, Count::locked_pages_bytes, -static_cast<int64_t>(found->second.bytes));
    r.by_start.erase(found);
}

bool is_page_locked(const void* address, size_t bytes) {
    if (forked()) {
        return false;
    }
    const auto start = reinterpret_cast<uintptr_t>(address);
    Ranges& r = ranges();
    const std::lock_guard lock(r.mutex);
    const auto found = at_or_before(r, start);
    return found != r.by_start.end() && start + bytes <= found->first + found->second.bytes &&
           start < found->first + found->second.bytes;
}

}  // namespace fake
