#include "c_api.h"

#include <exception>

#include <c10/util/Exception.h>

#include "capture.h"
#include "copy_engine.h"
#include "device.h"
#include "event.h"
#include "failures.h"
#include "host_memory.h"
#include "kernels.h"
#include "memory.h"

namespace {

template <class Body>
int answer(const Body& body) noexcept {
    try {
        body();
        return 0;
    } catch (const c10::Error& error) {
        fake::set_last_error(error.what_without_backtrace());
    } catch (const std::exception& error) {
        fake::set_last_error(error.what());
    }
    return 1;
}

fake::Event& event_at(void* event) {
    return *static_cast<fake::Event*>(event);
}

fake::Stream& stream_at(void* stream) {
    return *static_cast<fake::Stream*>(stream);
}

}  // namespace

const char* fake_describe_error(int /*status*/) {
    return fake::last_error();
}

int fake_clear_last_error() {
    fake::take_last_error();
    return 0;
}

int fake_lock_pages(void* address, size_t bytes) {
    return answer([&] { fake::lock_pages(address, bytes); });
}

int fake_unlock_pages(void* address, size_t /*bytes*/) {
    return answer([&] { fake::unlock_pages(address); });
}

int fake_allocate_pages(void** address, size_t bytes) {
    return answer([&] { *address = fake::allocate_host(bytes); });
}

int fake_free_pages(void* address) {
    return answer([&] { fake::free_host(address); });
}

int fake_is_page_locked(const void* address, int* locked) {
    return answer([&] { *locked = fake::is_page_locked(address, 1) ? 1 : 0; });
}

int fake_current_device(int* device) {
    return answer([&] { *device = fake::driver_device(); });
}

int fake_event_create(void** event) {
    return answer([&] { *event = fake::Event::create(false); });
}

int fake_event_record(void* event, void* stream) {
    return answer([&] { event_at(event).record(stream_at(stream)); });
}

int fake_event_query(void* event, int* passed) {
    return answer([&] { *passed = event_at(event).query() ? 1 : 0; });
}

int fake_event_synchronize(void* event) {
    return answer([&] { event_at(event).synchronize(); });
}

int fake_event_destroy(void* event) {
    return answer([&] {
        fake::check_not_forked();
        fake::Event::destroy(&event_at(event));
        fake::check_context();
    });
}

int fake_copy_to_host(void* to, const void* from, size_t bytes, void* stream) {
    return answer([&] {
        fake::use_device(fake::driver_device());
        fake::submit_to_host(stream_at(stream), to, from, bytes, true);
    });
}

int fake_stream_is_capturing(void* stream, int* status) {
    return answer([&] {
        fake::use_device(fake::driver_device());  // as CUDA makes the current device's context, whatever the stream
        *status = static_cast<int>(fake::ask_capture_status(stream_at(stream).device(), stream_at(stream).id()));
    });
}

int fake_exchange_capture_mode(int* mode) {
    return answer([&] {
        TORCH_CHECK(*mode >= 0 && *mode <= 2, "expected a capture mode, 0 to 2, got ", *mode);
        *mode = static_cast<int>(fake::exchange_capture_mode(static_cast<fake::CaptureMode>(*mode)));
    });
}

int fake_launch(void (*function)(void*), void* argument, void* stream) {
    return answer([&] { fake::launch(stream_at(stream), [=] { function(argument); }); });
}

void* fake_worker_address(const void* device_address) {
    return fake::device_of(device_address) < 0 ? fake::mapped_host_address(device_address)
                                               : fake::worker_address(device_address);
}

int fake_poison(void* device_address, size_t bytes, void* stream) {
    return answer([&] {
        if (fake::device_of(device_address) >= 0) return;  // which the host cannot read
        void* host = fake::mapped_host_address(device_address);
        TORCH_CHECK(fake::is_page_locked(host, bytes), "expected page-locked memory at its address for the device");
        fake::poison_destination(stream_at(stream), host, bytes);
    });
}

int fake_packs(int source_type, int destination_type) {
    return fake::packs(source_type, destination_type) ? 1 : 0;
}

int fake_pack(const tnb_pack_leaf* leaves, size_t count, int device, void* stream) {
    return answer([&] {
        TORCH_CHECK(device == stream_at(stream).device(), "expected a stream of fake:", device);
        fake::pack(leaves, count, stream_at(stream));
    });
}

int fake_device_address(void* host, int /*device*/, void** address) {
    return answer([&] { *address = fake::device_address(host); });
}
