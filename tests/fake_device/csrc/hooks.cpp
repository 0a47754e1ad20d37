// What torch asks a PrivateUse1 accelerator beyond streams and memory.
#include <ATen/detail/PrivateUse1HooksInterface.h>

#include <ATen/CPUGeneratorImpl.h>
#include <c10/core/Allocator.h>

#include "device.h"
#include "features.h"
#include "host_allocator.h"
#include "host_memory.h"
#include "memory.h"
#include "ops.h"

namespace fake {
namespace {

struct Hooks final : at::PrivateUse1HooksInterface {
    bool isBuilt() const override { return true; }
    bool isAvailable() const override { return device_count() > 0; }
    bool hasPrimaryContext(c10::DeviceIndex device) const override { return has_context(device); }
    c10::DeviceIndex deviceCount() const override { return static_cast<c10::DeviceIndex>(device_count()); }
    void setCurrentDevice(c10::DeviceIndex device) const override { set_device(device); }
    c10::DeviceIndex getCurrentDevice() const override { return static_cast<c10::DeviceIndex>(current_device()); }
    c10::DeviceIndex exchangeDevice(c10::DeviceIndex device) const override {
        return static_cast<c10::DeviceIndex>(exchange_device(device));
    }
    c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex device) const override {
        const int before = current_device();
        restore_device(device);
        return static_cast<c10::DeviceIndex>(before);
    }
    bool isPinnedPtr(const void* data) const override { return is_page_locked(data, 1); }
    at::Allocator* getPinnedMemoryAllocator() const override {
        return has(Feature::host_allocator) ? host_allocator()
                                            : at::PrivateUse1HooksInterface::getPinnedMemoryAllocator();
    }
    at::Device getDeviceFromPtr(void* data) const override {
        const int device = device_of(data);
        TORCH_CHECK(device >= 0, "expected an address of fake device memory, got ", data);
        return at::Device(at::DeviceType::PrivateUse1, static_cast<c10::DeviceIndex>(device));
    }
    // Random numbers are drawn by the CPU's generator, on the workers.
    const at::Generator& getDefaultGenerator(c10::DeviceIndex /*device*/) const override {
        return at::detail::getDefaultCPUGenerator();
    }
    at::Generator getNewGenerator(c10::DeviceIndex /*device*/) const override {
        return at::detail::createCPUGenerator();
    }
    void resizePrivateUse1Bytes(const c10::Storage& storage, size_t bytes) const override {
        resize_storage(storage.unsafeGetStorageImpl(), bytes);
    }
};

const bool registered = [] {
    at::RegisterPrivateUse1HooksInterface(new Hooks());
    return true;
}();

}  // namespace
}  // namespace fake
