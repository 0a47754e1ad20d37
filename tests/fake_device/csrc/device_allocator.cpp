#include "device_allocator.h"

#include <c10/core/CachingDeviceAllocator.h>

#include "counters.h"
#include "device.h"
#include "memory.h"

namespace fake {
namespace {

void free_caching(void* context) {
    free_block(static_cast<Block*>(context));
}

void free_foreign(void* context) {
    free_block(static_cast<Block*>(context));
}

c10::DataPtr own(Block* block, int device, c10::DeleterFnPtr deleter) {
    return {address_of(block), block, deleter,
            c10::Device(c10::DeviceType::PrivateUse1, static_cast<c10::DeviceIndex>(device))};
}

struct Allocator final : c10::DeviceAllocator {
    c10::DataPtr allocate(size_t bytes) override {
        const int device = current_device();
        if (bytes == 0) {
            return {nullptr, c10::Device(c10::DeviceType::PrivateUse1, static_cast<c10::DeviceIndex>(device))};
        }
        return own(allocate_block(device, bytes, current_stream(device)), device, free_caching);
    }
    void copy_data(void* /*dest*/, const void* /*src*/, std::size_t /*count*/) const override {
        TORCH_CHECK(false, "expected a copy of fake memory to go through a stream; use copy_() or clone()");
    }
    bool initialized() override { return true; }
    void emptyCache(c10::MempoolId_t /*pool*/) override {
        for (int device = 0; device < device_count(); ++device) {
            if (has_context(device)) {
                empty_cache(device);
            }
        }
    }
    void recordStream(const c10::DataPtr& data, c10::Stream stream) override {
        record_data_ptr(data, stream_of(stream.device_index(), stream.id()));
    }
    c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex device) override {
        check_device(device);
        c10::CachingDeviceAllocator::DeviceStats stats;
        for (const auto& [name, number] : counts(device)) {
            if (name == "device_bytes_live") {
                stats.allocated_bytes[0].current = number;
            } else if (name == "device_bytes_peak") {
                stats.allocated_bytes[0].peak = number;
            }
        }
        return stats;
    }
    void resetAccumulatedStats(c10::DeviceIndex device) override { check_device(device); }
    void resetPeakStats(c10::DeviceIndex device) override { check_device(device); }
};

}  // namespace

c10::Allocator* device_allocator() {
    static auto* leaked = new Allocator();
    return leaked;
}

c10::DataPtr allocate_foreign(size_t bytes) {
    const int device = current_device();
    return own(allocate_foreign_block(device, bytes), device, free_foreign);
}

void record_data_ptr(const c10::DataPtr& data, Stream& stream) {
    if (data.get_deleter() == free_caching && data.get_context() != nullptr) {
        record_use(static_cast<Block*>(data.get_context()), stream);
    }
}

REGISTER_ALLOCATOR(c10::DeviceType::PrivateUse1, device_allocator())

}  // namespace fake
