#pragma once

#include <c10/core/Device.h>
#include <c10/core/Event.h>

#include <memory>
#include <utility>
#include <vector>

#include "waiting.h"

namespace tnb {

// A point behind all that our lanes of one device type had been given when it was first asked for.
class LaneFence {
public:
    // Whether the device has come there before the deadline. False too where it does not answer, or where one of the
    // lanes is captured into a graph, which an event would become part of.
    bool has_passed(c10::DeviceType type, Clock::time_point deadline) noexcept;

private:
    using Recorded = std::pair<c10::Device, std::shared_ptr<c10::Event>>;

    void record(c10::DeviceType type);

    std::vector<Recorded> events_;
    bool recorded_ = false;
};

}  // namespace tnb
