// Creating, viewing and resizing fake tensors: nothing here runs on a stream but the copy of a storage that grows.
#include <ATen/EmptyTensor.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_as_complex_native.h>
#include <ATen/ops/view_as_real_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/DeviceGuard.h>
#include <torch/library.h>

#include <algorithm>
#include <cstring>

#include "device.h"
#include "device_allocator.h"
#include "memory.h"
#include "ops.h"

namespace fake {
namespace {

constexpr auto fake_keys = c10::DispatchKeySet(c10::DispatchKey::PrivateUse1);

c10::Device device_or_current(std::optional<c10::Device> device) {
    const int index = device.has_value() && device->has_index() ? device->index() : current_device();
    check_device(index);
    return c10::Device(c10::DeviceType::PrivateUse1, static_cast<c10::DeviceIndex>(index));
}

void refuse_pinned(std::optional<bool> pin_memory) {
    TORCH_CHECK(!pin_memory.value_or(false), "expected a CPU tensor to pin, got a tensor on the fake device");
}

at::Tensor empty(c10::IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout> /*layout*/,
                 std::optional<c10::Device> device, std::optional<bool> pin_memory,
                 std::optional<at::MemoryFormat> format) {
    refuse_pinned(pin_memory);
    const c10::DeviceGuard guard(device_or_current(device));
    return at::detail::empty_generic(size, device_allocator(), fake_keys, c10::dtype_or_default(dtype), format);
}

at::Tensor empty_strided(c10::IntArrayRef size, c10::IntArrayRef stride, std::optional<at::ScalarType> dtype,
                         std::optional<at::Layout> /*layout*/, std::optional<c10::Device> device,
                         std::optional<bool> pin_memory) {
    refuse_pinned(pin_memory);
    return empty_strided_on(device_or_current(device), size, stride, c10::dtype_or_default(dtype));
}

// Tensors that become larger take their storage along; those that become smaller leave it.
void grow_storage(c10::StorageImpl* storage, size_t bytes) {
    if (bytes > storage->nbytes()) {
        resize_storage(storage, bytes);
    }
}

const at::Tensor& resize_(const at::Tensor& self, c10::IntArrayRef size, std::optional<at::MemoryFormat> format) {
    auto* impl = self.unsafeGetTensorImpl();
    impl->set_sizes_contiguous(size);
    if (format.has_value() && *format != at::MemoryFormat::Contiguous && *format != at::MemoryFormat::Preserve) {
        impl->empty_tensor_restride(*format);
    }
    const auto elements = static_cast<size_t>(self.storage_offset() + self.numel());
    grow_storage(self.storage().unsafeGetStorageImpl(), elements * self.element_size());
    return self;
}

at::Tensor& set_storage(at::Tensor& self, at::Storage source, int64_t offset, c10::IntArrayRef size,
                        c10::IntArrayRef stride) {
    auto* impl = self.unsafeGetTensorImpl();
    const size_t needed = stride.empty() && !size.empty()
                              ? at::detail::computeStorageNbytesContiguous(size, self.element_size(), offset)
                              : at::detail::computeStorageNbytes(size, stride, self.element_size(), offset);
    grow_storage(source.unsafeGetStorageImpl(), needed);
    impl->set_storage_keep_dtype(std::move(source));
    impl->set_storage_offset(offset);
    if (stride.empty() && !size.empty()) {
        impl->set_sizes_contiguous(size);
    } else {
        impl->set_sizes_and_strides(size, stride);
    }
    return self;
}

at::Tensor& set_whole_storage(at::Tensor& self, at::Storage source) {
    const auto elements = static_cast<int64_t>(source.nbytes() / self.element_size());
    return set_storage(self, std::move(source), 0, {elements}, {});
}

at::Tensor& set_empty(at::Tensor& self) {
    const c10::DeviceGuard guard(self.device());
    c10::Storage nothing(c10::Storage::use_byte_size_t(), 0, device_allocator()->allocate(0), device_allocator(), true);
    return set_storage(self, std::move(nothing), 0, {0}, {});
}

at::Tensor foreign_empty(c10::IntArrayRef size, at::ScalarType dtype, int64_t device) {
    check_device(static_cast<int>(device));
    const c10::DeviceGuard guard(c10::Device(c10::DeviceType::PrivateUse1, static_cast<c10::DeviceIndex>(device)));
    const size_t bytes = at::detail::computeStorageNbytesContiguous(size, c10::elementSize(dtype));
    c10::Storage storage(c10::Storage::use_byte_size_t(), bytes, allocate_foreign(bytes), nullptr, false);
    at::Tensor tensor =
        at::detail::make_tensor<c10::TensorImpl>(std::move(storage), fake_keys, c10::scalarTypeToTypeMeta(dtype));
    tensor.unsafeGetTensorImpl()->set_sizes_contiguous(size);
    return tensor;
}

void record_stream(at::Tensor& self, c10::Stream stream) {
    record_data_ptr(self.storage().data_ptr(), stream_of(stream.device_index(), stream.id()));
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
    m.impl("empty.memory_format", empty);
    m.impl("empty_strided", empty_strided);
    m.impl("as_strided", at::native::as_strided_tensorimpl);
    m.impl("view", at::native::view);
    m.impl("_reshape_alias", at::native::_reshape_alias);
    m.impl("unfold", at::native::unfold);
    m.impl("view_as_real", at::native::view_as_real);
    m.impl("view_as_complex", at::native::view_as_complex);
    m.impl("resize_", resize_);
    m.impl("set_.source_Storage_storage_offset", set_storage);
    m.impl("set_.source_Storage", set_whole_storage);
    m.impl("set_.source_Tensor", at::native::set_tensor_);
    m.impl("set_", set_empty);
    m.impl("record_stream", record_stream);
}

TORCH_LIBRARY_FRAGMENT(fake_device, m) {
    m.def("foreign_empty(int[] size, ScalarType dtype, int device) -> Tensor", foreign_empty);
}

}  // namespace

at::Tensor cpu_alias(const at::Tensor& tensor) {
    const auto options = at::TensorOptions().dtype(tensor.scalar_type()).device(at::kCPU);
    const c10::DeviceGuard cpu(c10::Device(at::kCPU));
    const at::AutoDispatchBelowADInplaceOrView below;
    if (tensor.numel() == 0) {
        return at::detail::empty_strided_cpu(tensor.sizes(), tensor.strides(), options);
    }
    at::Tensor alias =
        at::from_blob(worker_address(tensor.const_data_ptr()), tensor.sizes(), tensor.strides(), options);
    alias._set_conj(tensor.is_conj());
    alias._set_neg(tensor.is_neg());
    return alias;
}

at::Tensor empty_strided_on(c10::Device device, at::IntArrayRef sizes, at::IntArrayRef strides, at::ScalarType dtype) {
    const c10::DeviceGuard guard(device);
    return at::detail::empty_strided_generic(sizes, strides, device_allocator(), fake_keys, dtype);
}

Stream& current_stream_of(const at::Tensor& tensor) {
    return current_stream(tensor.device().index());
}

namespace {
// Whoever submitted the work was warned by then; a worker would print it.
struct SaidAlready : c10::WarningHandler {
    void process(const c10::Warning& /*warning*/) override {}
};
}  // namespace

void run_on_worker(const std::function<void()>& work) {
    const Execution execution;
    const at::AutoDispatchBelowADInplaceOrView below;
    SaidAlready silent;
    const c10::WarningUtils::WarningHandlerGuard warnings(&silent);
    work();
}

void resize_storage(c10::StorageImpl* storage, size_t bytes) {
    TORCH_CHECK(storage->resizable(), "expected a resizable storage, got one of fixed size");
    const c10::DeviceGuard guard(storage->device());
    c10::DataPtr resized = device_allocator()->allocate(bytes);
    if (const size_t kept = std::min(storage->nbytes(), bytes); kept > 0) {
        char* to = worker_address(resized.get());
        const char* from = worker_address(storage->data());
        current_stream(storage->device().index()).enqueue([to, from, kept] {
            const Execution execution;
            std::memcpy(to, from, kept);
        });
    }
    storage->set_data_ptr_noswap(std::move(resized));
    storage->set_nbytes(bytes);
}

}  // namespace fake
