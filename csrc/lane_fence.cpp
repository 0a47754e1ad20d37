#include "lane_fence.h"

#include <c10/core/DeviceGuard.h>

#include "copy_lane.h"
#include "device.h"

namespace tnb {

bool LaneFence::has_passed(c10::DeviceType type, Clock::time_point deadline) noexcept {
    try {
        if (!recorded_) record(type);
        return wait_until(deadline, [this] {
            std::erase_if(events_, [](const Recorded& recorded) {
                const c10::DeviceGuard guard(recorded.first);
                return recorded.second->query();
            });
            return events_.empty();
        });
    } catch (const std::exception&) {
        return false;
    }
}

void LaneFence::record(c10::DeviceType type) {
    events_.clear();
    for (CopyLane* lane : CopyLane::all()) {
        if (lane->device().type() != type) continue;
        const c10::DeviceGuard guard(lane->device());
        refuse_capture(lane->stream());
        auto event = lane->event();
        event->record(lane->stream());
        events_.emplace_back(lane->device(), std::move(event));
    }
    recorded_ = true;
}

}  // namespace tnb
