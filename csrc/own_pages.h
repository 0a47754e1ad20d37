#pragma once

#include <memory>

#include "host_memory.h"
#include "pinned_budget.h"

namespace tnb {

// Page-locked memory that we have from the device type's driver itself, so that nothing of it is rounded to powers of
// two: anonymous memory of this process that it locks in place, which is charged to the cgroup, and of which a forked
// child gets a copy; where it refuses that, memory that it allocates, which is shared with the child. Null where it
// gives neither: one page is asked for on trial, which the budget has to have room for.
std::unique_ptr<HostMemory> make_own_pages(c10::DeviceType type, PinnedBudget& budget);

}  // namespace tnb
