#include "device.h"

#include <pthread.h>

#include <array>
#include <atomic>
#include <mutex>

#include <c10/util/Exception.h>

#include "counters.h"

namespace fake {
namespace {

std::atomic<int> configured_count{2};
std::array<std::atomic<bool>, max_devices> contexts{};
std::atomic<bool> in_forked_child{false};
std::once_flag fork_handler;
thread_local int thread_device = 0;
thread_local int thread_driver_device = 0;

bool any_context() noexcept {
    return context_count() > 0;
}

void mark_forked_child() {
    if (any_context()) {
        in_forked_child.store(true);
    }
}

}  // namespace

int device_count() noexcept {
    return configured_count.load();
}

void configure_devices(int count) {
    TORCH_CHECK_VALUE(count >= 1 && count <= max_devices, "expected 1 to ", max_devices, " fake devices, got ", count);
    TORCH_CHECK(count == device_count() || !any_context(),
                "expected the number of fake devices to be set before their first use, got ", count, " while ",
                device_count(), " are in use; call configure() right after the import or set FAKE_DEVICES");
    configured_count.store(count);
}

void check_device(int device) {
    TORCH_CHECK(device >= 0 && device < device_count(), "expected a fake device of index 0 to ", device_count() - 1,
                ", got ", device);
}

int current_device() noexcept {
    return thread_device;
}

int driver_device() noexcept {
    return thread_driver_device;
}

void set_device(int device) {
    check_device(device);
    use_device(device);
    count(device, Count::device_sets);
    thread_device = device;
    thread_driver_device = device;
}

int exchange_device(int device) {
    const int before = thread_device;
    if (before != device || thread_driver_device != device) {
        set_device(device);
    }
    return before;
}

void restore_device(int device) noexcept {
    if (device >= 0 && device < device_count()) {
        thread_device = device;
        if (has_context(device)) {
            thread_driver_device = device;
        }
    }
}

void use_device(int device) {
    check_not_forked();
    std::call_once(fork_handler, [] { pthread_atfork(nullptr, nullptr, mark_forked_child); });
    contexts[device].store(true);
}

bool has_context(int device) noexcept {
    return device >= 0 && device < max_devices && contexts[device].load();
}

int context_count() noexcept {
    int count = 0;
    for (const auto& context : contexts) {
        count += context.load() ? 1 : 0;
    }
    return count;
}

bool forked() noexcept {
    return in_forked_child.load();
}

void check_not_forked() {
    TORCH_CHECK(!forked(),
                "the fake device was in use when this process was forked and cannot be used in the child; "
                "start the process with the 'spawn' method");
}

}  // namespace fake
