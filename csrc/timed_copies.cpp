#include "timed_copies.h"

#include <ATen/EmptyTensor.h>
#include <ATen/core/CachingHostAllocator.h>
#include <ATen/ops/empty.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/StreamGuard.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <string>

#include "copy_lane.h"
#include "device.h"
#include "host_block.h"

namespace tnb {
namespace {

using Seconds = std::chrono::duration<double>;

// The tensors, and where each of them goes.
struct Job {
    const std::vector<at::Tensor>& tensors;
    const CopyLane& lane;
    const DeviceInterface& driver;
    std::vector<std::size_t> offsets;
    std::size_t bytes = 0;

    void demand(int status) const {
        if (status != 0) throw driver_error(driver, status, "copy tensors of " + lane.device().str());
    }

    void copy_each(char* host) const {
        for (std::size_t index = 0; index < tensors.size(); ++index) {
            copy(tensors[index].const_data_ptr(), tensors[index].nbytes(), host + offsets[index]);
        }
    }

    void copy(const void* source, std::size_t size, void* host) const {
        demand(driver.copy_to_host(host, source, size, *lane.native_stream()));
    }

    void pack(char* destination, unsigned blocks, unsigned threads) const {
        std::vector<tnb_pack_leaf> leaves;
        leaves.reserve(tensors.size());
        for (std::size_t index = 0; index < tensors.size(); ++index) {
            const at::Tensor& tensor = tensors[index];
            const auto type = static_cast<std::int8_t>(tensor.scalar_type());
            leaves.push_back({tensor.const_data_ptr(), destination + offsets[index], tensor.sizes().data(),
                              tensor.strides().data(), tensor.strides().data(), static_cast<std::int32_t>(tensor.dim()),
                              type, type});
        }
        demand(driver.pack_in_shape(leaves.data(), leaves.size(), lane.device().index(), *lane.native_stream(), blocks,
                                    threads));
    }

    char* seen_by_device(char* host) const {
        if (driver.device_address == nullptr) return host;
        void* address = nullptr;
        demand(driver.device_address(host, lane.device().index(), &address));
        return static_cast<char*>(address);
    }
};

}  // namespace

TimedCopies time_copies(const std::vector<at::Tensor>& tensors, CopyWay way, unsigned blocks, unsigned threads) {
    const c10::Device device = tensors.at(0).device();
    const DeviceInterface& driver = device_interface(device.type());
    const RelaxedCapture relaxed(device.type());
    if (driver.pack_in_shape == nullptr || driver.copy_to_host == nullptr || !copies_asynchronously(device)) {
        throw std::runtime_error("expected a device that the CUDA kernels in this build run on, got " + device.str());
    }
    const auto elsewhere = [device](const at::Tensor& tensor) { return tensor.device() != device; };
    if (std::any_of(tensors.begin(), tensors.end(), elsewhere)) {
        throw std::runtime_error("expected tensors of one device, got others than " + device.str());
    }
    const c10::DeviceGuard on_device(device);
    CopyLane& lane = CopyLane::of(device);
    if (!lane.native_stream().has_value()) {
        throw std::runtime_error("expected a device type whose streams torch can name to a driver, got " +
                                 device.str());
    }
    refuse_capture_of_copies(lane);
    Job job{tensors, lane, driver, {}, 0};
    for (const at::Tensor& tensor : tensors) {
        job.offsets.push_back(job.bytes);
        job.bytes += block_bytes(tensor.nbytes());
    }
    const c10::StreamGuard on_copy_stream(lane.stream());
    const auto size = static_cast<std::int64_t>(job.bytes);
    const at::Tensor staging = at::empty({way == CopyWay::staged ? size : 0}, at::device(device).dtype(at::kByte));
    TimedCopies timed;
    timed.arrived = at::detail::empty_generic({size}, host_allocator(device.type()),
                                              c10::DispatchKeySet(c10::DispatchKey::CPU), at::kByte, std::nullopt);
    auto* host = static_cast<char*>(timed.arrived.mutable_data_ptr());
    char* mapped = job.seen_by_device(host);
    const auto end = lane.event();
    const auto begin = std::chrono::steady_clock::now();
    const auto wait = [&end, &lane] {
        end->record(lane.stream());
        while (!end->query()) {
        }
    };
    try {
        if (way == CopyWay::each) job.copy_each(host);
        if (way == CopyWay::mapped) job.pack(mapped, blocks, threads);
        if (way == CopyWay::staged) {
            job.pack(static_cast<char*>(staging.mutable_data_ptr()), blocks, threads);
            job.copy(staging.const_data_ptr(), job.bytes, host);
        }
    } catch (...) {
        wait();  // what was started before writes to memory that is ours until then
        throw;
    }
    wait();
    timed.seconds = Seconds(std::chrono::steady_clock::now() - begin).count();
    return timed;
}

}  // namespace tnb
