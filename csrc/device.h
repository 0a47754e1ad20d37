#pragma once

#include <c10/core/Device.h>

namespace at {
struct HostAllocator;
}

namespace tnb {

// The one place for what is special to a device type. All else is written on c10's generic interface.

// The device type's own page-locked memory; nullptr where it has none.
at::HostAllocator* host_allocator(c10::DeviceType type);

// Whether copies from the device can run behind the caller's back: its type has a guard, streams of a pool, events and
// page-locked memory. Types without one of them are copied synchronously. Only success is remembered: what fails once,
// on a device that is lost for one, is told by the synchronous copy.
bool copies_asynchronously(c10::Device device);

}  // namespace tnb
