#include "fake_runtime.h"

#include <dlfcn.h>

#include <string>

#include "../../fake_device/csrc/c_api.h"
#include "element_types.h"
#include "launch.h"
#include "pack_arguments.h"
#include "runtime.h"

namespace kernel_on_cpu {

Driver driver;

namespace {

// Functions of the simulated accelerator's C interface; all of them, or none.
struct Accelerator {
    decltype(&fake_current_device) current_device = nullptr;
    decltype(&fake_launch) launch = nullptr;
    decltype(&fake_worker_address) worker_address = nullptr;
    decltype(&fake_poison) poison = nullptr;
    decltype(&fake_stream_is_capturing) stream_is_capturing = nullptr;
    decltype(&fake_exchange_capture_mode) exchange_capture_mode = nullptr;
    decltype(&fake_lock_pages) lock_pages = nullptr;
    decltype(&fake_unlock_pages) unlock_pages = nullptr;
    decltype(&fake_allocate_pages) allocate_pages = nullptr;
    decltype(&fake_free_pages) free_pages = nullptr;
    decltype(&fake_is_page_locked) is_page_locked = nullptr;
    decltype(&fake_device_address) device_address = nullptr;
    decltype(&fake_copy_to_host) copy_to_host = nullptr;
    decltype(&fake_describe_error) describe_error = nullptr;
    decltype(&fake_clear_last_error) clear_error = nullptr;
};

Accelerator accelerator;
thread_local std::string cleared_error;

bool is_connected() {
    return accelerator.launch != nullptr;
}

template <typename Function>
void find(void* library, const char* name, Function& function) {
    function = reinterpret_cast<Function>(dlsym(library, name));
}

// Counts the call; the error that a test wants of it, if any.
int asked(Call call) {
    ++driver.calls[call];
    return driver.errors[call];
}

int current_device(int* device) {
    *device = driver.device;
    const int error = asked(CURRENT_DEVICE);
    return error != 0 || !is_connected() ? error : accelerator.current_device(device);
}

int driver_version(int* version) {
    *version = driver.version;
    return asked(DRIVER_VERSION);
}

int launch(const void* kernel, unsigned blocks, unsigned threads, const void* argument, std::size_t bytes,
           void* stream) {
    const int error = asked(LAUNCH);
    if (error != 0 && driver.launches >= driver.launches_before_error) return error;
    // More than the driver takes: CUDA would refuse to load such a kernel.
    if (bytes > (driver.version >= tnb::cuda::LARGE_ARGUMENTS_SINCE ? tnb::cuda::LARGE_ARGUMENTS
                                                                    : tnb::cuda::SMALL_ARGUMENTS)) {
        return tnb::cuda::CUDA_INVALID_VALUE;
    }
    ++driver.launches;
    driver.blocks = blocks;
    driver.threads = threads;
    driver.argument_bytes = static_cast<std::uint32_t>(bytes);
    return launch_grid(kernel, blocks, threads, argument, bytes, stream, driver.seed);
}

int stream_is_capturing(void* stream, int* status) {
    *status = driver.capture_status;
    const int error = asked(STREAM_IS_CAPTURING);
    return error != 0 || !is_connected() ? error : accelerator.stream_is_capturing(stream, status);
}

int exchange_capture_mode(int* mode) {
    const int error = asked(EXCHANGE_CAPTURE_MODE);
    return error != 0 || !is_connected() ? error : accelerator.exchange_capture_mode(mode);
}

int lock_pages(void* address, std::size_t bytes) {
    const int error = asked(LOCK_PAGES);
    return error != 0 || !is_connected() ? error : accelerator.lock_pages(address, bytes);
}

int unlock_pages(void* address) {
    const int error = asked(UNLOCK_PAGES);
    return error != 0 || !is_connected() ? error : accelerator.unlock_pages(address, 0);
}

int allocate_pages(void** address, std::size_t bytes) {
    const int error = asked(ALLOCATE_PAGES);
    return error != 0 || !is_connected() ? error : accelerator.allocate_pages(address, bytes);
}

int free_pages(void* address) {
    const int error = asked(FREE_PAGES);
    return error != 0 || !is_connected() ? error : accelerator.free_pages(address);
}

int kind_of_pointer(const void* address, int* kind) {
    *kind = driver.pointer_kind;
    const int error = asked(KIND_OF_POINTER);
    if (error != 0 || !is_connected() || *kind != tnb::cuda::CUDA_HOST_MEMORY) return error;
    return accelerator.is_page_locked(address, kind);  // 1 for page-locked, as CUDA says "host"
}

int device_address(void* host, void** address) {
    *address = host;
    const int error = asked(DEVICE_ADDRESS);
    return error != 0 || !is_connected() ? error : accelerator.device_address(host, 0, address);
}

int copy_to_host(void* destination, const void* source, std::size_t bytes, void* stream) {
    const int error = asked(COPY_TO_HOST);
    return error != 0 || !is_connected() ? error : accelerator.copy_to_host(destination, source, bytes, stream);
}

// CUDA has words for each code; the accelerator has them for the thread's last error, which is cleared by now.
const char* describe_error(int) {
    return cleared_error.c_str();
}

int clear_error() {
    ++driver.errors_cleared;
    cleared_error = is_connected() ? accelerator.describe_error(0) : "words for it";
    return is_connected() ? accelerator.clear_error() : 0;
}

std::size_t bytes_of(const tnb_pack_leaf& leaf) {
    std::size_t bytes = tnb::cuda::item_size(static_cast<tnb::cuda::Element>(leaf.destination_type));
    for (int dim = 0; dim < leaf.rank; ++dim) bytes *= static_cast<std::size_t>(leaf.sizes[dim]);
    return bytes;
}

}  // namespace

const void* reachable(const void* address) {
    return is_connected() ? accelerator.worker_address(address) : address;
}

}  // namespace kernel_on_cpu

namespace tnb::cuda {

Runtime runtime = {kernel_on_cpu::current_device,
                   kernel_on_cpu::driver_version,
                   kernel_on_cpu::launch,
                   kernel_on_cpu::stream_is_capturing,
                   kernel_on_cpu::exchange_capture_mode,
                   kernel_on_cpu::lock_pages,
                   kernel_on_cpu::unlock_pages,
                   kernel_on_cpu::allocate_pages,
                   kernel_on_cpu::free_pages,
                   kernel_on_cpu::kind_of_pointer,
                   kernel_on_cpu::device_address,
                   kernel_on_cpu::copy_to_host,
                   kernel_on_cpu::describe_error,
                   kernel_on_cpu::clear_error};

}  // namespace tnb::cuda

extern "C" {

kernel_on_cpu::Driver* kernel_on_cpu_driver() {
    return &kernel_on_cpu::driver;
}

// From now on everything is asked of the simulated accelerator in the library at `path`, and launches run on its
// streams. 0 where it has all the functions.
int kernel_on_cpu_connect(const char* path) {
    using namespace kernel_on_cpu;
    void* library = dlopen(path, RTLD_NOW);
    if (library == nullptr) return 1;
    Accelerator found;
    find(library, "fake_current_device", found.current_device);
    find(library, "fake_launch", found.launch);
    find(library, "fake_worker_address", found.worker_address);
    find(library, "fake_poison", found.poison);
    find(library, "fake_stream_is_capturing", found.stream_is_capturing);
    find(library, "fake_exchange_capture_mode", found.exchange_capture_mode);
    find(library, "fake_lock_pages", found.lock_pages);
    find(library, "fake_unlock_pages", found.unlock_pages);
    find(library, "fake_allocate_pages", found.allocate_pages);
    find(library, "fake_free_pages", found.free_pages);
    find(library, "fake_is_page_locked", found.is_page_locked);
    find(library, "fake_device_address", found.device_address);
    find(library, "fake_copy_to_host", found.copy_to_host);
    find(library, "fake_describe_error", found.describe_error);
    find(library, "fake_clear_last_error", found.clear_error);
    accelerator = found;
    launch_by(found.launch);
    return 0;
}

// tnb_cuda_pack() there: what it is going to write is poisoned first, so that a read before the kernel has run shows.
int kernel_on_cpu_pack_on_accelerator(const tnb_pack_leaf* leaves, std::size_t count, int device, void* stream) {
    using namespace kernel_on_cpu;
    for (std::size_t leaf = 0; leaf < count; ++leaf) {
        if (accelerator.poison(leaves[leaf].destination, bytes_of(leaves[leaf]), stream) == 0) continue;
        tnb::cuda::runtime.clear_error();
        return tnb::cuda::CUDA_INVALID_VALUE;
    }
    return tnb_cuda_pack(leaves, count, device, stream);
}
}
