// Torch's view of the device memory: the allocator of storages, and memory of an allocator that is not it.
#pragma once

#include <c10/core/Allocator.h>

#include "stream.h"

namespace fake {

c10::Allocator* device_allocator();
// Memory on the current device whose deleter the caching allocator does not know.
c10::DataPtr allocate_foreign(size_t bytes);
// As torch's recordStream: without effect on memory that is not the caching allocator's.
void record_data_ptr(const c10::DataPtr& data, Stream& stream);

}  // namespace fake
