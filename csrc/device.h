#pragma once

#include <c10/core/Device.h>
#include <c10/core/Stream.h>

#include <cstddef>
#include <optional>
#include <stdexcept>
#include <string>

#include "cuda/pack.h"

namespace at {
struct HostAllocator;
}

namespace tnb {

class CopyLane;

// The one place for what is special to a device type. All else is written on c10's generic interface.

// What a driver's own C interface can do for us, as far as a device type has it. Each call answers 0 for success; a
// failed one leaves nothing behind but what `clear_error` takes away. The names are those of register_device().
struct DeviceInterface {
    // *status is not 0 where the stream's work is captured into a graph. The stream is what torch's native handle is.
    int (*stream_is_capturing)(void* stream, int* status) = nullptr;
    // *mode is exchanged with the thread's own: 0 for global, 1 for thread-local, 2 for relaxed.
    int (*exchange_capture_mode)(int* mode) = nullptr;
    // Page-lock memory of ours in place, for all devices of the type, and undo that.
    int (*lock_pages)(void* address, std::size_t bytes) = nullptr;
    int (*unlock_pages)(void* address, std::size_t bytes) = nullptr;
    // Page-locked memory of the driver's own, for all devices of the type, where pages cannot be locked in place.
    int (*allocate_pages)(void** address, std::size_t bytes) = nullptr;
    int (*free_pages)(void* address) = nullptr;
    // *locked is 0 where memory that was allocated as page-locked is something else.
    int (*is_page_locked)(const void* address, int* locked) = nullptr;
    // Enqueue a copy from memory of the thread's current device to page-locked memory on a stream of that device.
    int (*copy_to_host)(void* destination, const void* source, std::size_t bytes, void* stream) = nullptr;
    // What the status of the thread's last call means, in words that are valid until its next one.
    const char* (*describe_error)(int status) = nullptr;
    // Forget the thread's last error.
    int (*clear_error)() = nullptr;
    // Not 0 where pack() can turn values of the one type into values of the other, both of c10::ScalarType: from any
    // address to any other where they are the same, else between multiples of their sizes.
    int (*packs)(int source_type, int destination_type) = nullptr;
    // Enqueue the copies of all leaves, each on lines of its own or between bytes that stay as they are, on a stream of
    // the device, which is the thread's current one.
    int (*pack)(const tnb_pack_leaf* leaves, std::size_t count, int device, void* stream) = nullptr;
    // Not 0 where so many bytes of one block are better packed in memory of the device and brought over by one copy
    // than stored across the bus by the packer.
    int (*stages)(size_t bytes) = nullptr;
    // The same as pack() in at most so many blocks of so many threads, to measure which are best.
    int (*pack_in_shape)(const tnb_pack_leaf* leaves, std::size_t count, int device, void* stream, unsigned blocks,
                         unsigned threads) = nullptr;
    // Where pack() answered so because no kernel runs on the device, nothing was enqueued: why, else null.
    const char* (*why_no_kernels)(int status) = nullptr;
    // *address becomes where the device, which is the thread's current one, sees page-locked memory of the host.
    // Without it: at the same address.
    int (*device_address)(void* host, int device, void** address) = nullptr;
};

// That of the device type: what was registered; for CUDA, where our kernels' runtime is in this build, that; else one
// without any entry. Valid for good.
const DeviceInterface& device_interface(c10::DeviceType type);
// From now on; pools that exist keep what they have.
void register_device(c10::DeviceType type, const DeviceInterface& interface);

// The stream as the driver's own functions take it; nothing where the device type has none to give.
std::optional<void*> native_handle(const c10::Stream& stream);
// The error for a function of the driver that answered `status`; none is left behind. `operation` is what failed.
std::runtime_error driver_error(const DeviceInterface& driver, int status, const std::string& operation);

// The device type's own page-locked memory; nullptr where it has none.
at::HostAllocator* host_allocator(c10::DeviceType type);
// What it has cached goes back to the system. False where the device did not take something: that stays in the cache,
// where the next call finds it.
bool empty_host_cache(c10::DeviceType type) noexcept;

// Whether copies from the device can run behind the caller's back: its type has a guard, streams of a pool, events and
// page-locked memory. Types without one of them are copied synchronously. Only success is remembered: what fails once,
// on a device that is lost for one, is told by the synchronous copy.
bool copies_asynchronously(c10::Device device);

// While one lives, what this thread asks of the driver neither fails because another thread captures a graph, nor ends
// that capture. All that may query an event, wait, allocate or free is done under one, torch's own allocators included.
// Those of one thread nest: the first one of a device type asks the driver, and has to be the last to go.
class RelaxedCapture {
public:
    explicit RelaxedCapture(c10::DeviceType type);
    RelaxedCapture(RelaxedCapture&& other) noexcept;
    RelaxedCapture& operator=(RelaxedCapture&& other) noexcept;
    ~RelaxedCapture();

private:
    c10::DeviceType type_;
    const DeviceInterface* interface_;
    std::optional<int> before_;  // the thread's mode, where it was exchanged
};

// Whether the stream's work is captured into a graph, as far as anybody can tell: asks the driver, else torch's guard.
bool is_capturing(const c10::Stream& stream);
bool is_capturing(const CopyLane& lane);
struct CapturedError : std::runtime_error {
    CapturedError(c10::Device device, const std::string& words) : std::runtime_error(words), device(device) {}
    c10::Device device;
};
// Throws where it is, before anything is enqueued on the stream or waits for it: ours would become part of the graph.
void refuse_capture(const c10::Stream& stream);
// The same of the stream that our copies run on.
void refuse_capture_of_copies(const CopyLane& lane);
// The same of all streams that a copy from the device would use: the current one and that of the copies.
void refuse_capture(c10::Device device);

}  // namespace tnb
