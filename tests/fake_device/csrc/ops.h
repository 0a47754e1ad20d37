// What the operator files share: the CPU alias through which a worker reaches a tensor's memory.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/StorageImpl.h>

#include "stream.h"

namespace fake {

// A CPU tensor over the worker's side of the memory: same layout, same conj and neg bits. It owns nothing, as a kernel
// owns nothing: whoever frees the source too early has the worker read poison.
at::Tensor cpu_alias(const at::Tensor& tensor);

at::Tensor empty_strided_on(c10::Device device, at::IntArrayRef sizes, at::IntArrayRef strides, at::ScalarType dtype);

Stream& current_stream_of(const at::Tensor& tensor);

// Runs ATen calls on CPU aliases on a worker.
void run_on_worker(const std::function<void()>& work);

void resize_storage(c10::StorageImpl* storage, size_t bytes);

void copy_between(const at::Tensor& source, const at::Tensor& destination, bool non_blocking);

}  // namespace fake
