#include "device.h"

#include <ATen/core/CachingHostAllocator.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <array>
#include <atomic>

#include "copy_lane.h"

namespace tnb {
namespace {

std::array<std::atomic<bool>, c10::COMPILE_TIME_MAX_DEVICE_TYPES> asynchronous{};

bool has_copy_lane(c10::Device device) {
    try {
        const c10::DeviceGuard on_device(device);
        CopyLane& lane = CopyLane::of(device);
        lane.event()->record(lane.stream());
        return true;
    } catch (const c10::Error&) {
        return false;
    }
}

}  // namespace

at::HostAllocator* host_allocator(c10::DeviceType type) {
    try {
        return at::getHostAllocator(type);
    } catch (const c10::Error&) {  // newer torch throws where older torch answers nullptr
        return nullptr;
    }
}

bool copies_asynchronously(c10::Device device) {
    const c10::DeviceType type = device.type();
    // Apple's streams are not of a pool, and its shared memory is not page-locked: a copy must have ended on return.
    if (type == c10::DeviceType::MPS || type == c10::DeviceType::CPU || type == c10::DeviceType::Meta) return false;
    auto& known = asynchronous.at(static_cast<std::size_t>(type));
    if (known.load(std::memory_order_relaxed)) return true;
    if (!c10::impl::hasDeviceGuardImpl(type) || host_allocator(type) == nullptr || !has_copy_lane(device)) return false;
    known.store(true, std::memory_order_relaxed);
    return true;
}

}  // namespace tnb
