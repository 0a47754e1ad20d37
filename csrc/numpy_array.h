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

// The memory of an array that the values of `tensor` are to go to, as `dtype`; nothing where the array does not fit.
// What fits, in words: torch_np_bridge/outputs.py.
std::optional<Destination> take_destination(PyObject* array, const at::Tensor& tensor, c10::ScalarType dtype);
// The first dense destination that shares memory with another one.
std::optional<std::size_t> find_overlap(const std::vector<Destination>& destinations);
// Copies the values of a tensor on the host to an array that fits it; false with a Python error set.
bool fill_array(PyObject* array, const at::Tensor& host_tensor);

}  // namespace tnb
