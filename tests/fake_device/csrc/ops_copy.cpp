// copy_ with a fake tensor on either side, by the same decisions as torch's copy for CUDA.
//
// Same device: one operation on the stream, whatever layouts and dtypes. Between host and device only a dense copy of
// equal strides and dtype is one transfer. Anything else goes through contiguous temporaries, so it is asynchronous
// only if the destination is contiguous (a temporary on the host is not page-locked). A conj or neg bit that differs is
// resolved on the host after the transfer was submitted: with non_blocking, possibly before it was made.
#include <ATen/EmptyTensor.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/_local_scalar_dense.h>
#include <ATen/ops/empty_like.h>
#include <c10/core/DeviceGuard.h>
#include <torch/library.h>

#include <cstring>

#include "copy_engine.h"
#include "counters.h"
#include "host_allocator.h"
#include "memory.h"
#include "ops.h"

namespace fake {
namespace {

bool on_fake(const at::Tensor& tensor) {
    return tensor.device().is_privateuseone();
}

bool same_dense_layout(const at::Tensor& a, const at::Tensor& b) {
    if (a.scalar_type() != b.scalar_type()) {
        return false;
    }
    if (a.is_contiguous() && b.is_contiguous()) {
        return true;
    }
    return a.is_non_overlapping_and_dense() && a.strides() == b.strides();
}

void copy_on_device(const at::Tensor& source, const at::Tensor& destination) {
    Stream& stream = current_stream_of(source);
    Stream& other = destination.device() == source.device() ? stream : current_stream_of(destination);
    const size_t bytes = destination.nbytes();
    if (same_dense_layout(source, destination) && source.is_conj() == destination.is_conj() &&
        source.is_neg() == destination.is_neg()) {
        char* to = worker_address(destination.const_data_ptr());
        const char* from = worker_address(source.const_data_ptr());
        submit_on_device(stream, other, bytes, [=] { std::memmove(to, from, bytes); });
        return;
    }
    submit_on_device(stream, other, bytes, [from = cpu_alias(source), to = cpu_alias(destination)] {
        run_on_worker([&] { to.copy_(from); });
    });
}

void transfer(const at::Tensor& source, const at::Tensor& destination, bool non_blocking) {
    const at::Tensor& host = on_fake(source) ? destination : source;
    Stream& stream = current_stream_of(on_fake(source) ? source : destination);
    const c10::DeviceGuard guard((on_fake(source) ? source : destination).device());
    void* to = const_cast<void*>(destination.const_data_ptr());
    if (on_fake(source)) {
        submit_to_host(stream, to, source.const_data_ptr(), source.nbytes(), non_blocking);
    } else {
        submit_to_device(stream, to, source.const_data_ptr(), source.nbytes(), non_blocking);
    }
    if (non_blocking) {
        const auto& data = host.storage().data_ptr();
        const c10::Device device(c10::DeviceType::PrivateUse1, static_cast<c10::DeviceIndex>(stream.device()));
        host_allocator()->record_event(data.get(), data.get_context(),
                                       c10::Stream(c10::Stream::UNSAFE, device, stream.id()));
    }
    if (source.is_conj() != destination.is_conj()) {
        destination.conj_physical_();
    }
    if (source.is_neg() != destination.is_neg()) {
        destination.neg_();
    }
}

void copy_by_temporaries(const at::Tensor& source, const at::Tensor& destination, bool non_blocking) {
    const bool cast_at_source = on_fake(source) == non_blocking;
    const at::ScalarType dtype = cast_at_source ? destination.scalar_type() : source.scalar_type();
    const bool direct = destination.is_contiguous() && destination.scalar_type() == dtype;
    const at::Tensor dense_source = source.to(dtype).contiguous();
    const at::Tensor dense_destination =
        direct ? destination
               : at::empty_like(destination, destination.options().dtype(dtype), at::MemoryFormat::Contiguous);
    if (!direct) {
        dense_destination._set_conj(destination.is_conj());
        dense_destination._set_neg(destination.is_neg());
    }
    transfer(dense_source, dense_destination, non_blocking);
    if (!direct) {
        destination.copy_(dense_destination, non_blocking);
    }
}

at::Tensor copy_from(const at::Tensor& self, const at::Tensor& dst, bool non_blocking) {
    copy_between(self, dst, non_blocking);
    return dst;
}

at::Tensor copy_from_and_resize(const at::Tensor& self, const at::Tensor& dst) {
    dst.resize_(self.sizes());
    copy_between(self, dst, false);
    return dst;
}

at::Scalar local_scalar(const at::Tensor& self) {
    at::Tensor host = at::detail::empty_cpu(self.sizes(), self.scalar_type());
    copy_between(self, host, false);
    return at::_local_scalar_dense(host);
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
    m.impl("_copy_from", copy_from);
    m.impl("_copy_from_and_resize", copy_from_and_resize);
    m.impl("_local_scalar_dense", local_scalar);
}

// The copy resolves these bits itself; materialising them first would copy, and so never end.
TORCH_LIBRARY_IMPL(aten, Conjugate, m) {
    m.impl("_copy_from", torch::CppFunction::makeFallthrough());
}

TORCH_LIBRARY_IMPL(aten, Negative, m) {
    m.impl("_copy_from", torch::CppFunction::makeFallthrough());
}

}  // namespace

void copy_between(const at::Tensor& source, const at::Tensor& destination, bool non_blocking) {
    const at::Tensor expanded = source.sizes() == destination.sizes() ? source : source.expand_as(destination);
    if (destination.numel() == 0) {
        return;
    }
    if (expanded.is_complex() && !destination.is_complex() && destination.scalar_type() != at::kBool) {
        TORCH_WARN_ONCE("Casting complex values to real discards the imaginary part");
    }
    if (on_fake(expanded) && on_fake(destination)) {
        const c10::DeviceGuard guard(expanded.device());
        copy_on_device(expanded, destination);
    } else if (same_dense_layout(expanded, destination)) {
        transfer(expanded, destination, non_blocking);
    } else {
        copy_by_temporaries(expanded, destination, non_blocking);
    }
}

}  // namespace fake
