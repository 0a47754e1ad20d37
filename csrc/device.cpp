#include "device.h"

#include <ATen/core/CachingHostAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <array>
#include <atomic>

namespace tnb {
namespace {

enum class Answer : unsigned char { unknown, yes, no };

std::array<std::atomic<Answer>, c10::COMPILE_TIME_MAX_DEVICE_TYPES> answers{};

bool probe(c10::DeviceType type) {
    // Apple's streams are not of a pool, and its shared memory is not page-locked: a copy must have ended on return.
    if (type == c10::DeviceType::MPS || type == c10::DeviceType::CPU || type == c10::DeviceType::Meta) return false;
    return c10::impl::hasDeviceGuardImpl(type) && host_allocator(type) != nullptr;
}

}  // namespace

at::HostAllocator* host_allocator(c10::DeviceType type) {
    try {
        return at::getHostAllocator(type);
    } catch (const c10::Error&) {  // newer torch throws where older torch answers nullptr
        return nullptr;
    }
}

bool copies_asynchronously(c10::DeviceType type) {
    auto& answer = answers.at(static_cast<std::size_t>(type));
    Answer known = answer.load(std::memory_order_relaxed);
    if (known == Answer::unknown) {
        known = probe(type) ? Answer::yes : Answer::no;
        answer.store(known, std::memory_order_relaxed);
    }
    return known == Answer::yes;
}

}  // namespace tnb
