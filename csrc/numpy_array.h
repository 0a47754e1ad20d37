#pragma once

#include "engine.h"

typedef struct _object PyObject;

namespace tnb {

// Called once, with the GIL, before anything else here; false with a Python error set.
bool init_numpy();

// New arrays, or nullptr with a Python error set. An array's base owns the memory: of a tensor on the CPU the storage,
// not the tensor, whose `data` may be exchanged under a live array; of copied values a lease on the block.

PyObject* make_view(const at::Tensor& host_tensor);
PyObject* make_array(HostValues values);

}  // namespace tnb
