#include "device.h"

#include <ATen/Context.h>
#include <ATen/core/CachingHostAllocator.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <utility>

#include "copy_lane.h"
#include "shortfalls.h"
#ifdef TNB_WITH_KERNELS
#include "cuda/driver.h"
#endif

namespace tnb {
namespace {

template <class T>
using PerType = std::array<std::atomic<T>, c10::COMPILE_TIME_MAX_DEVICE_TYPES>;

PerType<const DeviceInterface*> interfaces{};
PerType<bool> asynchronous{};

template <class T>
std::atomic<T>& of(PerType<T>& table, c10::DeviceType type) {
    return table.at(static_cast<std::size_t>(type));
}

constexpr int relaxed = 2;

// For which device types the mode of this thread is relaxed already.
thread_local std::uint64_t relaxed_types = 0;

constexpr std::uint64_t bit_of(c10::DeviceType type) {
    static_assert(c10::COMPILE_TIME_MAX_DEVICE_TYPES <= 64);
    return std::uint64_t{1} << static_cast<unsigned>(type);
}

// Asked of a device type that was met, never before: torch's answer initialises the driver, which forks do not survive.
DeviceInterface own_interface(c10::DeviceType type) {
#ifdef TNB_WITH_KERNELS
    // ROCm's tensors call themselves CUDA's.
    if (type == c10::DeviceType::CUDA && at::globalContext().hasCUDA() && !at::globalContext().hasROCM()) {
        return {.stream_is_capturing = tnb_cuda_stream_is_capturing,
                .exchange_capture_mode = tnb_cuda_exchange_capture_mode,
                .lock_pages = tnb_cuda_lock_pages,
                .unlock_pages = tnb_cuda_unlock_pages,
                .allocate_pages = tnb_cuda_allocate_pages,
                .free_pages = tnb_cuda_free_pages,
                .is_page_locked = tnb_cuda_is_page_locked,
                .copy_to_host = tnb_cuda_copy_to_host,
                .describe_error = tnb_cuda_describe_error,
                .packs = tnb_cuda_packs,
                .pack = tnb_cuda_pack,
                .stages = tnb_cuda_stages,
                .pack_in_shape = tnb_cuda_pack_in_shape,
                .why_no_kernels = tnb_cuda_why_no_kernels,
                .device_address = tnb_cuda_device_address};
    }
#else
    (void)type;
#endif
    return {};
}

bool has_copy_lane(c10::Device device) {
    try {
        const c10::DeviceGuard on_device(device);
        CopyLane& lane = CopyLane::of(device);
        if (is_capturing(lane)) return false;  // an event there would belong to the graph
        lane.event()->record(lane.stream());
        return true;
    } catch (const c10::Error&) {
        return false;
    }
}

// Torch's guards can be asked from 2.13 on; before that only a driver can.
template <class Guard>
bool guard_says_capturing(const Guard& guard, const c10::Stream& stream) {
    if constexpr (requires { guard.isStreamCapturing(stream); }) {
        return guard.isStreamCapturing(stream);
    } else {
        return false;
    }
}

bool is_capturing(const c10::Stream& stream, std::optional<void*> handle) {
    const DeviceInterface& driver = device_interface(stream.device_type());
    // A default stream's handle is that of any device's: the driver takes it for the current one's.
    const c10::DeviceGuard on_device(stream.device());
    if (driver.stream_is_capturing != nullptr) {
        int status = 0;
        if (handle.has_value() && driver.stream_is_capturing(*handle, &status) == 0) return status != 0;
        if (driver.clear_error != nullptr) driver.clear_error();
    }
    return guard_says_capturing(c10::impl::VirtualGuardImpl(stream.device_type()), stream);
}

std::optional<c10::Stream> current_stream(c10::Device device) {
    try {
        return c10::impl::VirtualGuardImpl(device.type()).getStream(device);
    } catch (const c10::Error&) {  // a device type without streams has none that is captured
        return std::nullopt;
    }
}

}  // namespace

const DeviceInterface& device_interface(c10::DeviceType type) {
    auto& slot = of(interfaces, type);
    const DeviceInterface* known = slot.load(std::memory_order_acquire);
    if (known != nullptr) return *known;
    const auto* made = new DeviceInterface(own_interface(type));
    if (slot.compare_exchange_strong(known, made, std::memory_order_acq_rel)) return *made;
    delete made;
    return *known;
}

// The one before is leaked: others may be using it.
void register_device(c10::DeviceType type, const DeviceInterface& interface) {
    of(interfaces, type).store(new DeviceInterface(interface), std::memory_order_release);
    forget_shortfalls(type);
}

std::optional<void*> native_handle(const c10::Stream& stream) {
    try {
        return c10::impl::VirtualGuardImpl(stream.device_type()).getStreamNativeHandle(stream);
    } catch (const c10::Error&) {
        return std::nullopt;
    }
}

std::runtime_error driver_error(const DeviceInterface& driver, int status, const std::string& operation) {
    std::string answer = "status " + std::to_string(status);
    if (driver.describe_error != nullptr) answer += std::string(": ") + driver.describe_error(status);
    if (driver.clear_error != nullptr) driver.clear_error();
    return std::runtime_error("expected the driver to " + operation + ", got " + answer);
}

at::HostAllocator* host_allocator(c10::DeviceType type) {
    try {
        return at::getHostAllocator(type);
    } catch (const c10::Error&) {  // newer torch throws where older torch answers nullptr
        return nullptr;
    }
}

bool empty_host_cache(c10::DeviceType type) noexcept {
    try {
        host_allocator(type)->empty_cache();
        return true;
    } catch (const std::exception&) {
        return false;
    }
}

bool copies_asynchronously(c10::Device device) {
    const c10::DeviceType type = device.type();
    // Apple's streams are not of a pool, and its shared memory is not page-locked: a copy must have ended on return.
    if (type == c10::DeviceType::CPU || type == c10::DeviceType::Meta) return false;
    auto& known = of(asynchronous, type);
    if (known.load(std::memory_order_relaxed)) return true;
    const bool complete = type != c10::DeviceType::MPS && c10::impl::hasDeviceGuardImpl(type) &&
                          host_allocator(type) != nullptr && has_copy_lane(device);
    note_synchronous(type, !complete);
    if (complete) known.store(true, std::memory_order_relaxed);
    return complete;
}

RelaxedCapture::RelaxedCapture(c10::DeviceType type) : type_(type), interface_(&device_interface(type)) {
    if (interface_->exchange_capture_mode == nullptr || (relaxed_types & bit_of(type)) != 0) return;
    int mode = relaxed;
    if (interface_->exchange_capture_mode(&mode) == 0) {
        before_ = mode;
        relaxed_types |= bit_of(type);
    } else if (interface_->clear_error != nullptr) {
        interface_->clear_error();
    }
}

RelaxedCapture::RelaxedCapture(RelaxedCapture&& other) noexcept
    : type_(other.type_), interface_(other.interface_), before_(std::exchange(other.before_, std::nullopt)) {}

RelaxedCapture& RelaxedCapture::operator=(RelaxedCapture&& other) noexcept {
    std::swap(type_, other.type_);
    std::swap(interface_, other.interface_);
    std::swap(before_, other.before_);
    return *this;
}

RelaxedCapture::~RelaxedCapture() {
    if (!before_.has_value()) return;
    relaxed_types &= ~bit_of(type_);
    if (interface_->exchange_capture_mode(&*before_) != 0 && interface_->clear_error != nullptr) {
        interface_->clear_error();
    }
}

bool is_capturing(const c10::Stream& stream) {
    return is_capturing(stream, native_handle(stream));
}

bool is_capturing(const CopyLane& lane) {
    return is_capturing(lane.stream(), lane.native_stream());
}

void refuse_capture(const c10::Stream& stream) {
    if (!is_capturing(stream)) return;
    throw CapturedError(stream.device(),
                        "expected a stream of " + stream.device().str() +
                            " whose work runs, got one that is captured into a graph; capture without the conversion "
                            "and convert after the replay, or give the static output with snapshot=True then");
}

void refuse_capture_of_copies(const CopyLane& lane) {
    if (!is_capturing(lane)) return;
    throw CapturedError(lane.device(),
                        "expected the stream of " + lane.device().str() +
                            " that torch_np_bridge copies on to run, got it captured into a graph: torch gives the "
                            "streams of its pool out again and again; capture on another stream");
}

void refuse_capture(c10::Device device) {
    if (device.is_cpu() || !c10::impl::hasDeviceGuardImpl(device.type())) return;
    if (const auto current = current_stream(device)) refuse_capture(*current);
    if (copies_asynchronously(device)) refuse_capture_of_copies(CopyLane::of(device));
}

}  // namespace tnb
