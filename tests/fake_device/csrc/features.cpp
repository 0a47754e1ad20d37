#include "features.h"

#include <array>
#include <atomic>

#include "host_allocator.h"

namespace fake {
namespace {

constexpr size_t feature_count = static_cast<size_t>(Feature::stream_handles) + 1;
std::array<std::atomic<bool>, feature_count> missing{};

}  // namespace

bool has(Feature feature) noexcept {
    return !missing[static_cast<size_t>(feature)].load();
}

void set_feature(Feature feature, bool present) {
    missing[static_cast<size_t>(feature)].store(!present);
    if (feature == Feature::host_allocator) {
        at::setHostAllocator(c10::DeviceType::PrivateUse1, present ? host_allocator() : nullptr);
    }
}

}  // namespace fake
