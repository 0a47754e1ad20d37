#pragma once

#include <memory>

#include "host_memory.h"
#include "pinned_budget.h"

namespace tnb {

// Whether the device type locks pages in place, here and now.
bool can_lock_pages(c10::DeviceType type, PinnedBudget& budget);

// Anonymous memory of this process, page-locked in place by the device type. Nothing of it is rounded to powers of two,
// it is charged to the cgroup, and a forked child gets a copy of what it inherits.
std::unique_ptr<HostMemory> make_own_pages(c10::DeviceType type);

}  // namespace tnb
