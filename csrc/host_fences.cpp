#include "host_fences.h"

#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <utility>

#include "copy_lane.h"

namespace tnb {

std::uint64_t HostFences::settled(HostPool& pool, CopyLane& lane) {
    const c10::DeviceGuard guard(lane.device());
    bool room = false;
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        room = fences_.size() < most;
    }
    if (room) {
        // The number first: what comes back from now on is not before this fence.
        const std::uint64_t number = pool.next_fence();
        auto event = lane.event();
        event->record(c10::impl::VirtualGuardImpl(lane.device().type()).getStream(lane.device()));
        const std::lock_guard<std::mutex> lock(mutex_);
        fences_.push_back({number, lane.device(), std::move(event)});
    }
    for (;;) {
        Fence oldest{0, lane.device(), nullptr};
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            if (fences_.empty()) return settled_;
            oldest = fences_.front();
        }
        const c10::DeviceGuard on_device(oldest.device);
        const bool passed = oldest.event->query();
        const std::lock_guard<std::mutex> lock(mutex_);
        if (!passed) return settled_;
        settled_ = std::max(settled_, oldest.number);
        // Another thread may have taken it out meanwhile.
        if (!fences_.empty() && fences_.front().number == oldest.number) fences_.pop_front();
    }
}

}  // namespace tnb
