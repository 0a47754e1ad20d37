#include "own_pages.h"

#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

#include "device.h"
#include "lane_fence.h"

namespace tnb {
namespace {

constexpr std::size_t huge_page = std::size_t{2} << 20;

constexpr std::size_t round_up(std::size_t bytes, std::size_t step) {
    return (bytes + step - 1) / step * step;
}

// Before 5.12, Linux leaves a locked private page to whoever writes to it first after a fork with a copy: where that is
// the parent, the device goes on writing to the page that is the child's now.
bool forks_copy_locked_pages() {
    utsname system{};
    int major = 0;
    int minor = 0;
    if (uname(&system) != 0 || std::sscanf(system.release, "%d.%d", &major, &minor) != 2) return false;
    return std::pair(major, minor) >= std::pair(5, 12);
}

// Who made the pages.
enum class Source { mapped_by_us, allocated_by_driver };

class OwnPages final : public HostMemory {
public:
    OwnPages(c10::DeviceType type, Source source) : type_(type), driver_(device_interface(type)), source_(source) {}

    std::size_t slab_bytes(std::size_t bytes, std::size_t held) const noexcept override {
        // Growing with what is held keeps the slabs few, and what the last one has too much within an eighth.
        return round_up(std::max({bytes, held / 8, smallest_slab}), step);
    }

    Allocation allocate(std::size_t slab_bytes) override {
        const RelaxedCapture relaxed(type_);
        void* data = source_ == Source::mapped_by_us ? map(slab_bytes) : nullptr;
        const int status = source_ == Source::mapped_by_us ? driver_.lock_pages(data, slab_bytes)
                                                           : driver_.allocate_pages(&data, slab_bytes);
        if (status != 0) {
            clear_error();
            if (source_ == Source::mapped_by_us) munmap(data, slab_bytes);
            throw std::bad_alloc();
        }
        return {data, data};
    }

    void deallocate(const Allocation& allocation, std::size_t slab_bytes, bool /*inherited*/) noexcept override {
        set_inheritable(allocation, slab_bytes, false);
        const std::lock_guard<std::mutex> lock(mutex_);
        freed_.push_back({allocation, slab_bytes, {}});
    }

    std::size_t reclaim(Clock::time_point deadline, bool others) noexcept override {
        const RelaxedCapture relaxed(type_);
        std::vector<Freed> freed;
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            freed.swap(freed_);
        }
        std::size_t gone = 0;
        std::erase_if(freed, [&](Freed& memory) {
            if (!memory.fence.has_passed(type_, deadline) || !release(memory)) return false;
            gone += memory.bytes;
            return true;
        });
        if (others) empty_host_cache(type_);
        const std::lock_guard<std::mutex> lock(mutex_);
        freed_.insert(freed_.end(), std::make_move_iterator(freed.begin()), std::make_move_iterator(freed.end()));
        return gone;
    }

    c10::DeviceType device_type() const noexcept override { return type_; }

    bool shared_with_children() const noexcept override { return shared_; }

    // Where that fails, the child gets a copy of more than it needs.
    void set_inheritable(const Allocation& allocation, std::size_t slab_bytes, bool inheritable) noexcept override {
        if (!shared_) madvise(allocation.data, slab_bytes, inheritable ? MADV_DOFORK : MADV_DONTFORK);
    }

private:
    // An eighth of the smallest slab.
    static constexpr std::size_t smallest_slab = std::size_t{1} << 20;
    static constexpr std::size_t step = smallest_slab / 8;

    struct Freed {
        Allocation allocation;
        std::size_t bytes;
        LaneFence fence;
    };

    char* map(std::size_t bytes) const {
        const std::size_t room = bytes + huge_page;
        void* mapped =
            mmap(nullptr, room, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | (shared_ ? MAP_SHARED : MAP_PRIVATE), -1, 0);
        if (mapped == MAP_FAILED) throw std::bad_alloc();
        char* const begin = static_cast<char*>(mapped);
        const auto address = reinterpret_cast<std::uintptr_t>(mapped);
        char* const data = begin + (round_up(address, huge_page) - address);
        if (data != begin) munmap(begin, static_cast<std::size_t>(data - begin));
        if (data + bytes != begin + room) munmap(data + bytes, static_cast<std::size_t>(begin + room - data - bytes));
        madvise(data, bytes, MADV_HUGEPAGE);
        return data;
    }

    // What the driver does not let go of stays mapped: the device may reach it.
    bool release(const Freed& memory) noexcept {
        void* data = memory.allocation.data;
        const int status =
            source_ == Source::mapped_by_us ? driver_.unlock_pages(data, memory.bytes) : driver_.free_pages(data);
        if (status != 0) {
            clear_error();
            return false;
        }
        if (source_ == Source::mapped_by_us) munmap(data, memory.bytes);
        return true;
    }

    void clear_error() const noexcept {
        if (driver_.clear_error != nullptr) driver_.clear_error();
    }

    const c10::DeviceType type_;
    const DeviceInterface driver_;
    const Source source_;
    const bool shared_ = source_ == Source::allocated_by_driver || !forks_copy_locked_pages();
    std::mutex mutex_;  // guards the list
    std::vector<Freed> freed_;
};

// What the driver does not take back stays counted.
bool locks_pages(const DeviceInterface& driver, std::size_t page, PinnedBudget& budget) {
    if (driver.lock_pages == nullptr || driver.unlock_pages == nullptr || !budget.reserve(page, 0)) return false;
    void* trial = mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
    const bool locked = trial != MAP_FAILED && driver.lock_pages(trial, page) == 0;
    const bool unlocked = locked && driver.unlock_pages(trial, page) == 0;
    if (trial != MAP_FAILED && locked == unlocked) munmap(trial, page);
    if (!unlocked && driver.clear_error != nullptr) driver.clear_error();
    if (locked == unlocked) budget.release(page);
    return unlocked;
}

bool allocates_pages(const DeviceInterface& driver, std::size_t page, PinnedBudget& budget) {
    if (driver.allocate_pages == nullptr || driver.free_pages == nullptr || !budget.reserve(page, 0)) return false;
    void* trial = nullptr;
    const bool allocated = driver.allocate_pages(&trial, page) == 0;
    const bool freed = allocated && driver.free_pages(trial) == 0;
    if (!freed && driver.clear_error != nullptr) driver.clear_error();
    if (allocated == freed) budget.release(page);
    return freed;
}

}  // namespace

std::unique_ptr<HostMemory> make_own_pages(c10::DeviceType type, PinnedBudget& budget) {
    const DeviceInterface& driver = device_interface(type);
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const RelaxedCapture relaxed(type);
    if (locks_pages(driver, page, budget)) return std::make_unique<OwnPages>(type, Source::mapped_by_us);
    if (allocates_pages(driver, page, budget)) return std::make_unique<OwnPages>(type, Source::allocated_by_driver);
    return nullptr;
}

}  // namespace tnb
