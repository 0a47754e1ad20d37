#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <functional>

#include "layout.h"

namespace tnb {

class CopyLane;

// Enqueue the copy of one leaf on the lane, whose device is the current one, and return at once. `data` is page-locked
// and has room for `layout.bytes` bytes; it may be read when the lane has come past this point.
void enqueue_copy(const CopyLane& lane, const at::Tensor& source, const Layout& layout, void* data);

// The same, on the current stream, where the destination is reached in parts: calls `copy` with tensors that are dense
// on the device and hold consecutive parts of the destination, and with the offset of each in bytes. Before anything is
// enqueued for a part, `before` is called, if given; it may throw.
void for_each_dense_part(const at::Tensor& source, const Layout& layout,
                         const std::function<void(const at::Tensor& dense, std::size_t offset)>& copy,
                         const std::function<void()>& before = nullptr);

// Enqueue the copy of `count` elements of a dense tensor, from the one at `begin` in the order of memory, on the lane,
// whose stream and device are the current ones.
void enqueue_elements(const CopyLane& lane, const at::Tensor& dense, std::size_t begin, std::size_t count, void* data);

// Copy a part that for_each_dense_part() gave to ordinary memory, and wait until it is there.
void copy_to_ordinary_memory(const at::Tensor& dense, const Layout& layout, void* data);

// Copy values of a dtype from one place in memory to another.
void copy_on_host(at::IntArrayRef sizes, c10::ScalarType dtype, at::IntArrayRef from_strides, void* from,
                  at::IntArrayRef to_strides, void* to);

// The values of `source` as a plain tensor of `dtype` on the host, in memory of its own where `fresh` asks for it.
// Synchronous.
at::Tensor to_host(const at::Tensor& source, c10::ScalarType dtype, bool fresh);

// Memory of the lane's device. It may be dropped as soon as what uses it is enqueued on the lane: whoever gets it next
// comes behind that.
at::Tensor device_bytes(const CopyLane& lane, std::size_t bytes);

// A new tensor over the memory that the source has now, and keeps its storage alive. It does not follow the source to
// other memory: another thread may read it while the source is resized.
at::Tensor alias(const at::Tensor& source);

// A dense copy of `source` as it is now, of `dtype`, on its own device and on the current stream.
at::Tensor snapshot(const at::Tensor& source, c10::ScalarType dtype);

}  // namespace tnb
