#include "memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include <c10/util/Exception.h>

#include "capture.h"
#include "counters.h"
#include "device.h"
#include "failures.h"

namespace fake {

struct Block {
    int device;
    char* address;
    size_t bytes;
    Stream* home;
    bool of_graph;
    std::vector<Stream*> used_on;
};

namespace {

constexpr size_t granularity = 512;

struct Arena {
    size_t bytes;
    char* seen;    // by the host: no access
    char* worked;  // by workers
};

char* reserve(size_t bytes, int protection) {
    void* address = mmap(nullptr, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    TORCH_CHECK(address != MAP_FAILED, "fake device: the system refused the address space of the devices' memory");
    madvise(address, bytes, MADV_DONTFORK);
    madvise(address, bytes, MADV_DONTDUMP);
    return static_cast<char*>(address);
}

// Behind the first context only, which fixes the number of devices. No more than they can have, because valgrind gives
// a process some 100 GiB of addresses: enough for one device.
const Arena& arena() {
    static const size_t bytes = device_capacity * static_cast<size_t>(device_count());
    static const Arena leaked{bytes, reserve(bytes, PROT_NONE), reserve(bytes, PROT_READ | PROT_WRITE)};
    return leaked;
}

struct Pools {
    std::mutex mutex;
    // By stream and size; the device's own free ranges are under no stream.
    std::array<std::map<std::pair<Stream*, size_t>, std::vector<char*>>, max_devices> free;
    std::array<size_t, max_devices> end{};
};

Pools& pools() {
    static auto* leaked = new Pools();
    return *leaked;
}

char* take(Pools& p, int device, Stream* home, size_t bytes) {
    const auto found = p.free[device].find({home, bytes});
    if (found == p.free[device].end() || found->second.empty()) {
        return nullptr;
    }
    char* address = found->second.back();
    found->second.pop_back();
    return address;
}

char* extend(Pools& p, int device, size_t bytes) {
    TORCH_CHECK_WITH(OutOfMemoryError, p.end[device] + bytes <= device_capacity, "fake:", device,
                     " is out of memory: ", bytes, " bytes asked, ", device_capacity - p.end[device], " left");
    char* address = arena().seen + static_cast<size_t>(device) * device_capacity + p.end[device];
    p.end[device] += bytes;
    return address;
}

void poison(const char* address, size_t bytes) {
    std::memset(worker_address(address), freed_device_poison, bytes);
}

size_t rounded(size_t bytes) {
    return (bytes + granularity - 1) / granularity * granularity;
}

Block* new_block(int device, size_t bytes, Stream* home) {
    use_device(device);
    check(Call::device_alloc);
    const size_t size = rounded(bytes);
    Pools& p = pools();
    const std::lock_guard lock(p.mutex);
    const bool of_graph = home != nullptr && capture_status(device, home->id()) != CaptureStatus::none;
    char* address = of_graph ? nullptr : take(p, device, home, size);
    if (address == nullptr) {
        address = of_graph ? nullptr : take(p, device, nullptr, size);
        if (address == nullptr) {
            address = extend(p, device, size);
        }
        poison(address, size);
        count(device, Count::device_allocations);
    }
    count(device, Count::device_requests);
    count_device_bytes(device, static_cast<int64_t>(size));
    return new Block{device, address, size, home, of_graph, {}};
}

void give_back(Block* block) {
    block->home->enqueue_own([address = block->address, bytes = block->bytes] {
        const Execution execution;
        poison(address, bytes);
    });
    Pools& p = pools();
    const std::lock_guard lock(p.mutex);
    p.free[block->device][{block->home, block->bytes}].push_back(block->address);
    delete block;
}

void give_back_behind(Block* block) {
    auto last = std::shared_ptr<Block>(block, [](Block* done) { give_back(done); });
    for (Stream* stream : std::exchange(block->used_on, {})) {
        stream->enqueue_own([last]() {});
    }
}

}  // namespace

Block* allocate_block(int device, size_t bytes, Stream& home) {
    return new_block(device, bytes, &home);
}

Block* allocate_foreign_block(int device, size_t bytes) {
    return new_block(device, bytes, nullptr);
}

void free_block(Block* block) noexcept {
    if (block == nullptr || forked() || fails(Call::device_free)) {
        return;
    }
    count_device_bytes(block->device, -static_cast<int64_t>(block->bytes));
    if (block->of_graph) {
        delete block;
    } else if (block->home == nullptr) {
        // Its range is never used again, so that the poison stays.
        poison(block->address, block->bytes);
        delete block;
    } else if (block->used_on.empty()) {
        give_back(block);
    } else {
        give_back_behind(block);
    }
}

void record_use(Block* block, Stream& stream) {
    if (&stream != block->home) {
        const std::lock_guard lock(pools().mutex);
        block->used_on.push_back(&stream);
    }
}

void* address_of(const Block* block) {
    return block->address;
}

namespace {

// Blocks are not made of pages: those at the ends may be a neighbour's too.
void release_whole_pages(char* address, size_t bytes) {
    static const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
    const uintptr_t begin = (reinterpret_cast<uintptr_t>(address) + page - 1) & ~(page - 1);
    const uintptr_t end = (reinterpret_cast<uintptr_t>(address) + bytes) & ~(page - 1);
    if (end > begin) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

}  // namespace

void empty_cache(int device) {
    check_not_forked();
    check(Call::device_free);
    check_not_captured(Call::device_free, device);
    check_safe(Call::device_free);
    wait_for_device(device);
    Pools& p = pools();
    const std::lock_guard lock(p.mutex);
    std::map<std::pair<Stream*, size_t>, std::vector<char*>> kept;
    for (auto& [key, addresses] : p.free[device]) {
        for (char* address : addresses) {
            release_whole_pages(worker_address(address), key.second);
            kept[{nullptr, key.second}].push_back(address);
        }
    }
    p.free[device] = std::move(kept);
}

char* worker_address(const void* address) {
    TORCH_CHECK(device_of(address) >= 0, "expected an address of fake device memory, got ", address);
    return arena().worked + (static_cast<const char*>(address) - arena().seen);
}

int device_of(const void* address) noexcept {
    if (context_count() == 0) return -1;
    const char* start = arena().seen;
    const char* asked = static_cast<const char*>(address);
    const bool inside = asked >= start && asked < start + arena().bytes;
    return inside ? static_cast<int>(static_cast<size_t>(asked - start) / device_capacity) : -1;
}

}  // namespace fake
