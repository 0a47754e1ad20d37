// The generic device interface (c10) over the driver, with the same habits as torch's own for CUDA: record and destroy
// make the event's device current by a plain set and set the previous one back in the same way.
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include "capture.h"
#include "counters.h"
#include "device.h"
#include "device_allocator.h"
#include "event.h"
#include "failures.h"
#include "features.h"
#include "stream.h"

namespace fake {
namespace {

constexpr auto fake_type = c10::DeviceType::PrivateUse1;

c10::Stream wrap(int device, int64_t id) {
    return c10::Stream(c10::Stream::UNSAFE, c10::Device(fake_type, static_cast<c10::DeviceIndex>(device)), id);
}

Stream& unwrap(const c10::Stream& stream) {
    return stream_of(stream.device_index(), stream.id());
}

Event* unwrap(void* event) {
    return static_cast<Event*>(event);
}

int index_of(c10::Device device) {
    TORCH_CHECK(device.type() == fake_type, "expected a fake device, got ", device);
    const int index = device.has_index() ? device.index() : current_device();
    check_device(index);
    return index;
}

class PlainDeviceSwitch {
public:
    explicit PlainDeviceSwitch(int device) : before_(current_device()) { set_device(device); }
    ~PlainDeviceSwitch() { set_device(before_); }
    PlainDeviceSwitch(const PlainDeviceSwitch&) = delete;
    PlainDeviceSwitch& operator=(const PlainDeviceSwitch&) = delete;

private:
    int before_;
};

struct Guard final : c10::impl::DeviceGuardImplInterface {
    c10::DeviceType type() const override { return fake_type; }

    c10::Device exchangeDevice(c10::Device device) const override {
        return c10::Device(fake_type, static_cast<c10::DeviceIndex>(exchange_device(index_of(device))));
    }
    c10::Device getDevice() const override {
        return c10::Device(fake_type, static_cast<c10::DeviceIndex>(current_device()));
    }
    void setDevice(c10::Device device) const override { set_device(index_of(device)); }
    void uncheckedSetDevice(c10::Device device) const noexcept override { restore_device(device.index()); }
    c10::DeviceIndex deviceCount() const noexcept override { return static_cast<c10::DeviceIndex>(device_count()); }
    c10::DeviceCapability getDeviceCapability(c10::Device device) const override {
        index_of(device);
        return {};
    }

    c10::Stream getStream(c10::Device device) const override {
        const int index = index_of(device);
        return wrap(index, current_stream_id(index));
    }
    c10::Stream getDefaultStream(c10::Device device) const override { return wrap(index_of(device), 0); }
    c10::Stream getNewStream(c10::Device device, int /*priority*/) const override { return take_from_pool(device); }
    c10::Stream getStreamFromGlobalPool(c10::Device device, bool /*is_high_priority*/) const override {
        return take_from_pool(device);
    }
    c10::Stream exchangeStream(c10::Stream stream) const override {
        return wrap(stream.device_index(), exchange_stream(stream.device_index(), stream.id()));
    }
    // From torch 2.13 on this overrides.
    virtual bool isStreamCapturing(const c10::Stream& stream) const {
        return ask_capture_status(stream.device_index(), stream.id()) != CaptureStatus::none;
    }
    void* getStreamNativeHandle(const c10::Stream stream) const override {
        TORCH_CHECK(has(Feature::stream_handles), "Backend doesn't support getting stream native handle.");
        return &unwrap(stream);
    }

    bool queryStream(const c10::Stream& stream) const override {
        check_not_forked();
        check(Call::stream_query);
        check_not_captured(Call::stream_query, unwrap(stream));
        check_safe(Call::stream_query);
        count(stream.device_index(), Count::stream_queries);
        const bool idle = unwrap(stream).idle();
        check_context();
        return idle;
    }
    void synchronizeStream(const c10::Stream& stream) const override {
        check_not_forked();
        check(Call::stream_synchronize);
        check_not_captured(Call::stream_synchronize, unwrap(stream));
        check_safe(Call::stream_synchronize);
        count(stream.device_index(), Count::stream_synchronizes);
        unwrap(stream).mark()->wait_on_host();
        check_context();
    }
    void synchronizeDevice(const c10::DeviceIndex device) const override {
        check_not_forked();
        check(Call::device_synchronize);
        check_device(device);
        check_not_captured(Call::device_synchronize, device);
        check_safe(Call::device_synchronize);
        count(device, Count::device_synchronizes);
        wait_for_device(device);
        check_context();
    }

    void record(void** event, const c10::Stream& stream, const c10::DeviceIndex device,
                const c10::EventFlag flag) const override {
        TORCH_CHECK(device == -1 || device == stream.device_index(),
                    "expected a stream of fake:", static_cast<int>(device),
                    ", the event's device, got one of fake:", static_cast<int>(stream.device_index()),
                    "; record an event of the stream's own device");
        const PlainDeviceSwitch at_event(stream.device_index());
        if (*event == nullptr) {
            *event = Event::create(flag == c10::EventFlag::BACKEND_DEFAULT);
        }
        unwrap(*event)->record(unwrap(stream));
    }
    void block(void* event, const c10::Stream& stream) const override {
        if (event != nullptr) {
            const PlainDeviceSwitch at_stream(stream.device_index());
            unwrap(event)->block(unwrap(stream));
        }
    }
    bool queryEvent(void* event) const override { return event == nullptr || unwrap(event)->query(); }
    void synchronizeEvent(void* event) const override {
        if (event != nullptr) {
            unwrap(event)->synchronize();
        }
    }
    void destroyEvent(void* event, const c10::DeviceIndex /*device*/) const noexcept override {
        if (event != nullptr && !forked()) {
            const PlainDeviceSwitch at_event(unwrap(event)->device());
            Event::destroy(unwrap(event));
        }
    }
    double elapsedTime(void* start, void* end, const c10::DeviceIndex /*device*/) const override {
        return unwrap(start)->milliseconds_until(*unwrap(end));
    }

    void recordDataPtrOnStream(const c10::DataPtr& data, const c10::Stream& stream) const override {
        record_data_ptr(data, unwrap(stream));
    }

private:
    static c10::Stream take_from_pool(c10::Device device) {
        TORCH_CHECK(has(Feature::pool_streams), "Backend doesn't support acquiring a stream from pool.");
        check_not_forked();
        check(Call::stream_get);
        const Stream& stream = next_pool_stream(index_of(device));
        return wrap(stream.device(), stream.id());
    }
};

C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard)

}  // namespace
}  // namespace fake
