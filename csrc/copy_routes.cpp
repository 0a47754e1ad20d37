#include "copy_routes.h"

#include <ATen/EmptyTensor.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_strided.h>
#include <c10/core/StorageImpl.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include <algorithm>

#include "copy_lane.h"
#include "device.h"

namespace tnb {
namespace {

// What a gather makes dense at a time: what is allocated under the copy stream is never reused by compute, so it
// stays small; a few MiB keep the bus busy for a hundred microseconds, many times the cost of starting a copy.
constexpr std::size_t gather_slab_bytes = std::size_t{8} << 20;

// Our copies are no operations of the user's: autograd must not record them, and a mode or a transform of torch.func
// that the user is in (fake tensors, a counter of operations, grad, …) must not see them, nor wrap what they make.
struct BelowUserDispatch {
    c10::impl::ExcludeDispatchKeyGuard modes{
        c10::DispatchKeySet({c10::DispatchKey::Python, c10::DispatchKey::PythonTLSSnapshot,
                             c10::DispatchKey::FuncTorchDynamicLayerFrontMode,
                             c10::DispatchKey::FuncTorchDynamicLayerBackMode, c10::DispatchKey::Functionalize})};
    at::AutoDispatchBelowADInplaceOrView autograd;
};

at::Tensor host_tensor(void* data, at::IntArrayRef sizes, at::IntArrayRef strides, std::size_t bytes,
                       caffe2::TypeMeta dtype) {
    auto storage = c10::make_intrusive<c10::StorageImpl>(c10::StorageImpl::use_byte_size_t(), bytes,
                                                         c10::DataPtr(data, c10::Device(c10::kCPU)),
                                                         /*allocator=*/nullptr, /*resizable=*/false);
    at::Tensor tensor =
        at::detail::make_tensor<c10::TensorImpl>(std::move(storage), c10::DispatchKeySet(c10::DispatchKey::CPU), dtype);
    tensor.unsafeGetTensorImpl()->set_sizes_and_strides(sizes, strides);
    return tensor;
}

void copy_dense(const at::Tensor& source, at::IntArrayRef strides, void* data, bool non_blocking) {
    const auto bytes = static_cast<std::size_t>(source.numel()) * source.element_size();
    host_tensor(data, source.sizes(), strides, bytes, source.dtype()).copy_(source, non_blocking);
}

// Gives a copy of dense bytes to the driver itself, where it has a function for that: torch takes some microseconds to
// say the same. False where it has none.
bool driver_copies(const CopyLane& lane, const void* source, std::size_t bytes, void* data) {
    const DeviceInterface& driver = device_interface(lane.device().type());
    if (driver.copy_to_host == nullptr || !lane.native_stream().has_value()) return false;
    const int status = driver.copy_to_host(data, source, bytes, *lane.native_stream());
    if (status != 0) throw driver_error(driver, status, "copy a tensor of " + lane.device().str() + " to the host");
    return true;
}

// Allocated and freed on the copy stream: its memory is used again only behind the copy that reads it.
at::Tensor made_dense(const at::Tensor& source, const Layout& layout) {
    at::Tensor dense = at::empty_strided(source.sizes(), layout.strides, source.options().dtype(layout.dtype));
    // A cast is what `.to` makes of it, which resolves lazy bits first; copy_ would negate what was cast.
    const bool cast = layout.dtype != source.scalar_type();
    dense.copy_(cast ? source.resolve_conj().resolve_neg() : source, /*non_blocking=*/true);
    return dense;
}

}  // namespace

void for_each_dense_part(const at::Tensor& source, const Layout& layout,
                         const std::function<void(const at::Tensor& dense, std::size_t offset)>& copy,
                         const std::function<void()>& before) {
    const BelowUserDispatch guard;
    const auto copy_part = [&](const at::Tensor& part, std::size_t offset) {
        if (before != nullptr) before();
        copy(layout.route == Route::dense ? part : made_dense(part, layout), offset);
    };
    if (layout.route == Route::dense) return copy_part(source, 0);
    const std::size_t itemsize = c10::elementSize(layout.dtype);
    // What is lazy is resolved in its own dtype first, which may be the wider one.
    const bool lazy = source.is_conj() || source.is_neg();
    const std::size_t widest = lazy ? std::max<std::size_t>(itemsize, source.element_size()) : itemsize;
    if (layout.bytes / itemsize * widest <= gather_slab_bytes) return copy_part(source, 0);
    const Slabs plan = slabs(source.sizes(), layout.strides, widest, gather_slab_bytes);
    const std::size_t slice_bytes = static_cast<std::size_t>(layout.strides[plan.dim]) * itemsize;
    const std::int64_t length = source.size(plan.dim);
    for (std::int64_t begin = 0; begin < length; begin += plan.slices) {
        const at::Tensor slab = source.narrow(plan.dim, begin, std::min(plan.slices, length - begin));
        copy_part(slab, static_cast<std::size_t>(begin) * slice_bytes);
    }
}

void enqueue_copy(const CopyLane& lane, const at::Tensor& source, const Layout& layout, void* data) {
    if (layout.route == Route::dense && driver_copies(lane, source.const_data_ptr(), layout.bytes, data)) return;
    const c10::StreamGuard on_copy_stream(lane.stream());
    for_each_dense_part(source, layout, [&](const at::Tensor& dense, std::size_t offset) {
        char* part = static_cast<char*>(data) + offset;
        if (driver_copies(lane, dense.const_data_ptr(), dense.nbytes(), part)) return;
        copy_dense(dense, layout.strides, part, /*non_blocking=*/true);
    });
}

void enqueue_elements(const CopyLane& lane, const at::Tensor& dense, std::size_t begin, std::size_t count, void* data) {
    const std::size_t itemsize = dense.element_size();
    const auto* bytes = static_cast<const char*>(dense.const_data_ptr()) + begin * itemsize;
    if (driver_copies(lane, bytes, count * itemsize, data)) return;
    const BelowUserDispatch guard;
    const std::int64_t size = static_cast<std::int64_t>(count);
    const auto offset = dense.storage_offset() + static_cast<std::int64_t>(begin);
    copy_dense(dense.as_strided({size}, {1}, offset), {1}, data, /*non_blocking=*/true);
}

void copy_to_ordinary_memory(const at::Tensor& dense, const Layout& layout, void* data) {
    const BelowUserDispatch guard;
    copy_dense(dense, layout.strides, data, /*non_blocking=*/false);
}

void copy_on_host(at::IntArrayRef sizes, c10::ScalarType dtype, at::IntArrayRef from_strides, void* from,
                  at::IntArrayRef to_strides, void* to) {
    const BelowUserDispatch guard;
    const auto tensor = [sizes, dtype](at::IntArrayRef strides, void* data) {
        const std::size_t extent = at::detail::computeStorageNbytes(sizes, strides, c10::elementSize(dtype));
        return host_tensor(data, sizes, strides, extent, c10::scalarTypeToTypeMeta(dtype));
    };
    tensor(to_strides, to).copy_(tensor(from_strides, from));
}

at::Tensor to_host(const at::Tensor& source, c10::ScalarType dtype, bool fresh) {
    const BelowUserDispatch guard;
    at::Tensor host = source.to(dtype);
    if (!source.is_cpu()) {
        host = host.cpu();
    } else if (fresh && host.is_same(source)) {
        host = source.clone();
    }
    return host.resolve_conj().resolve_neg();
}

at::Tensor device_bytes(const CopyLane& lane, std::size_t bytes) {
    const BelowUserDispatch guard;
    const c10::StreamGuard on_copy_stream(lane.stream());
    return at::empty({static_cast<std::int64_t>(bytes)}, at::device(lane.device()).dtype(at::kByte));
}

at::Tensor alias(const at::Tensor& source) {
    const BelowUserDispatch guard;
    at::Tensor same = source.alias();
    const c10::Storage& storage = source.storage();
    c10::DataPtr data(
        const_cast<void*>(storage.data()), new c10::Storage(storage),
        [](void* kept) { delete static_cast<c10::Storage*>(kept); }, storage.device());
    const c10::Storage frozen(c10::Storage::use_byte_size_t(), storage.nbytes(), std::move(data), nullptr, false);
    same.unsafeGetTensorImpl()->set_storage_keep_dtype(frozen);
    return same;
}

at::Tensor snapshot(const at::Tensor& source, c10::ScalarType dtype) {
    const BelowUserDispatch guard;
    return dtype == source.scalar_type() ? source.clone() : source.to(dtype);
}

}  // namespace tnb
