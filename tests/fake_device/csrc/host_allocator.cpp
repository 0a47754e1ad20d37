#include "host_allocator.h"

#include <algorithm>
#include <atomic>

#include "capture.h"
#include "device.h"
#include "host_memory.h"
#include "stream.h"

namespace fake {
namespace {

using UseMarker = std::shared_ptr<Marker>;
using HostBlock = at::HostBlock<c10::Stream>;

std::atomic<bool> rounds_to_powers_of_two{true};

struct HostAllocatorImpl final : at::CachingHostAllocatorImpl<c10::Stream, UseMarker> {
    void allocate_host_memory(size_t size, void** address) override { *address = allocate_host(size); }

    void free_block(HostBlock* block) override { free_host(block->ptr_); }

    void record_stream(std::optional<std::vector<UseMarker>>& events, c10::Stream stream) override {
        if (!forked()) {
            events->push_back(stream_of(stream.device_index(), stream.id()).mark());
        }
    }

    // By exact size: with the rounding switched, torch 2.13's own answers a request with a smaller block.
    HostBlock* get_free_block(size_t size, BlockPool& pool) override {
        const size_t index = size_index(size);
        const std::lock_guard lock(pool.free_list_[index].mutex_);
        auto& list = pool.free_list_[index].list_;
        const auto found =
            std::find_if(list.begin(), list.end(), [&](HostBlock* block) { return block->size_ == size; });
        if (found == list.end()) {
            return nullptr;
        }
        HostBlock* block = *found;
        list.erase(found);
        block->allocated_ = true;
        stats_.active_bucket_stats[index].increase(1);
        stats_.active_bytes_bucket_stats[index].increase(size);
        return block;
    }

    bool query_event(UseMarker& event) override { return event->passed(); }

    // From torch 2.13 on this overrides the limit up to which sizes are rounded.
    virtual size_t pinned_max_round_threshold() const { return rounds_to_powers_of_two.load() ? SIZE_MAX : 0; }

    c10::Stream get_current_stream() const {
        const int device = current_device();
        return c10::Stream(c10::Stream::UNSAFE,
                           c10::Device(c10::DeviceType::PrivateUse1, static_cast<c10::DeviceIndex>(device)),
                           current_stream_id(device));
    }

    bool stream_is_capturing(c10::Stream stream) const {
        return capture_status(stream.device_index(), stream.id()) != CaptureStatus::none;
    }
};

void free_host_context(void* context);

using HostAllocator = at::CachingHostAllocatorInterface<HostAllocatorImpl, free_host_context>;

HostAllocator& leaked_allocator() {
    static auto* leaked = new HostAllocator();
    return *leaked;
}

void free_host_context(void* context) {
    leaked_allocator().free(context);
}

}  // namespace

at::HostAllocator* host_allocator() {
    return &leaked_allocator();
}

void round_host_memory_to_powers_of_two(bool rounding) {
    rounds_to_powers_of_two.store(rounding);
}

REGISTER_HOST_ALLOCATOR(c10::DeviceType::PrivateUse1, host_allocator())

}  // namespace fake
