#include "host_memory.h"

#include <ATen/Context.h>
#include <ATen/core/CachingHostAllocator.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <iterator>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

#include "device.h"
#include "lane_fence.h"
#include "own_pages.h"
#include "shortfalls.h"

namespace tnb {
namespace {

// What was freed, but may lie in the cache of an allocator yet, where every pool could find it, while a forked child
// still sees it.
class InheritedMemory {
public:
    void add(const void* data) {
        const std::lock_guard<std::mutex> lock(mutex_);
        addresses_.push_back(data);
    }
    void remove(const void* data) {
        const std::lock_guard<std::mutex> lock(mutex_);
        std::erase(addresses_, data);
    }
    bool contains(const void* data) {
        const std::lock_guard<std::mutex> lock(mutex_);
        return std::find(addresses_.begin(), addresses_.end(), data) != addresses_.end();
    }

private:
    std::mutex mutex_;  // guards the list
    std::vector<const void*> addresses_;
};

InheritedMemory& inherited_memory() {
    static auto* instance = new InheritedMemory;
    return *instance;
}

// Torch's host allocators round to powers of two; a slab of such a size wastes nothing of it.
class DeviceTypeHostMemory final : public HostMemory {
public:
    explicit DeviceTypeHostMemory(c10::DeviceType type) : type_(type), allocator_(host_allocator(type)) {}

    std::size_t slab_bytes(std::size_t bytes, std::size_t held) const noexcept override {
        // Growing with what is held keeps the slabs few, and what the last one has too much within a half.
        return std::bit_ceil(std::max({bytes, held / 2, smallest_slab}));
    }

    Allocation allocate(std::size_t slab_bytes) override {
        if (!has_page_locking(type_)) throw std::bad_alloc();
        const RelaxedCapture relaxed(type_);
        // What a forked child still sees may lie in the cache behind the allocator: it is taken out, and put back when
        // there is something better.
        std::vector<at::DataPtr> inherited;
        for (;;) {
            auto owner = std::make_unique<at::DataPtr>(allocator_->allocate(slab_bytes));
            void* data = owner->get();
            demand_page_locked(data);
            if (!inherited_memory().contains(data)) return {data, owner.release()};
            inherited.push_back(std::move(*owner));
        }
    }

    void deallocate(const Allocation& allocation, std::size_t slab_bytes, bool inherited) noexcept override {
        const RelaxedCapture relaxed(type_);
        if (inherited) inherited_memory().add(allocation.data);
        const std::size_t failures = failures_.load();
        delete static_cast<at::DataPtr*>(allocation.handle);
        // Only now: torch's allocator has noted the copies that torch made to a block, and keeps a freed one until an
        // event that it records then, on the streams of those copies, has passed. The fence comes behind these.
        const std::lock_guard<std::mutex> lock(mutex_);
        freed_.push_back({allocation.data, slab_bytes, failures, {}});
    }

    std::size_t reclaim(Clock::time_point deadline, bool others) noexcept override {
        const RelaxedCapture relaxed(type_);
        std::vector<Freed> freed;
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            freed.swap(freed_);
        }
        const auto waiting = std::partition(freed.begin(), freed.end(),
                                            [&](Freed& memory) { return memory.fence.has_passed(type_, deadline); });
        const bool any = waiting != freed.begin();
        const bool emptied = (others || any) && empty_cache();
        const auto kept =
            std::partition(freed.begin(), waiting, [this](const Freed& memory) { return !memory.stays_locked(type_); });
        std::size_t gone = 0;
        const std::lock_guard<std::mutex> lock(mutex_);
        for (auto memory = freed.begin(); memory != kept; ++memory) {
            gone += memory->bytes;
            inherited_memory().remove(memory->data);
        }
        // What stays locked where all was freed does so for good: it is counted, but not asked for again.
        freed_.insert(freed_.end(), std::make_move_iterator(emptied ? waiting : kept),
                      std::make_move_iterator(freed.end()));
        return gone;
    }

    c10::DeviceType device_type() const noexcept override { return type_; }

    bool shared_with_children() const noexcept override { return true; }

private:
    static constexpr std::size_t smallest_slab = std::size_t{1} << 20;

    struct Freed {
        void* data;
        std::size_t bytes;
        std::size_t failures;  // to empty the cache, before this came to lie in it
        LaneFence fence;

        // What the driver refuses to free is in torch's cache no more, nor is what lay behind it in the list of its
        // size: who empties the cache the next time frees neither.
        bool stays_locked(c10::DeviceType type) const noexcept {
            if (failures == failures_.load()) return false;
            try {
                return at::globalContext().getAcceleratorHooksInterface(type).isPinnedPtr(data);
            } catch (const std::exception&) {
                return true;
            }
        }
    };

    // What the allocator gave may be managed memory, which serves no copy behind the caller's back.
    void demand_page_locked(const void* data) const {
        const DeviceInterface& driver = device_interface(type_);
        int locked = 1;
        if (driver.is_page_locked == nullptr) return;
        const int status = driver.is_page_locked(data, &locked);
        if (status == 0 && locked != 0) return;
        if (status == 0) note_no_page_locking(type_);
        if (driver.clear_error != nullptr) driver.clear_error();
        throw std::bad_alloc();
    }

    bool empty_cache() noexcept {
        const bool emptied = empty_host_cache(type_);
        if (!emptied) failures_.fetch_add(1);
        return emptied;
    }

    const c10::DeviceType type_;
    at::HostAllocator* const allocator_;
    std::mutex mutex_;  // guards the list
    std::vector<Freed> freed_;
    static inline std::atomic<std::size_t> failures_{0};  // to empty the cache, which all pools have in common
};

}  // namespace

std::unique_ptr<HostMemory> make_host_memory(c10::DeviceType type, PinnedBudget& budget) {
    if (auto pages = make_own_pages(type, budget)) return pages;
    return std::make_unique<DeviceTypeHostMemory>(type);
}

}  // namespace tnb
