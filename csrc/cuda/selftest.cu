#include "selftest.h"

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <system_error>
#include <thread>
#include <type_traits>

namespace {

constexpr std::uint32_t WORDS = 65'537;  // no multiple of a block: the last one is cut short
constexpr std::size_t BYTES = WORDS * sizeof(std::uint32_t);
constexpr unsigned THREADS = 256;

__host__ __device__ std::uint32_t pattern(std::uint32_t index) {
    return (index * 2654435761u) ^ 0x7462u;
}

__global__ void fill(std::uint32_t* words, std::uint32_t count) {
    const std::uint32_t index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index < count) {
        words[index] = pattern(index);
    }
}

template <auto release>
struct Release {
    template <typename T>
    void operator()(T* handle) const {
        release(handle);
    }
};

template <typename Handle, auto release>
using Owned = std::unique_ptr<std::remove_pointer_t<Handle>, Release<release>>;

cudaError_t free_device(void* pointer) {
    return cudaFree(pointer);
}

cudaError_t free_host(void* pointer) {
    return cudaFreeHost(pointer);
}

int failed(cudaError_t code) {
    return static_cast<int>(code);
}

int run_on_this_thread(int device) {
    cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
    if (cudaError_t code = cudaThreadExchangeStreamCaptureMode(&mode)) {
        return failed(code);
    }
    if (cudaError_t code = cudaSetDevice(device)) {
        return failed(code);
    }
    cudaStream_t raw_stream = nullptr;
    if (cudaError_t code = cudaStreamCreateWithFlags(&raw_stream, cudaStreamNonBlocking)) {
        return failed(code);
    }
    const Owned<cudaStream_t, cudaStreamDestroy> stream(raw_stream);
    cudaEvent_t raw_event = nullptr;
    if (cudaError_t code = cudaEventCreateWithFlags(&raw_event, cudaEventDisableTiming | cudaEventBlockingSync)) {
        return failed(code);
    }
    const Owned<cudaEvent_t, cudaEventDestroy> event(raw_event);
    void* raw_words = nullptr;
    if (cudaError_t code = cudaMalloc(&raw_words, BYTES)) {
        return failed(code);
    }
    const Owned<void*, free_device> words(raw_words);
    void* raw_host = nullptr;
    if (cudaError_t code = cudaHostAlloc(&raw_host, BYTES, cudaHostAllocPortable)) {
        return failed(code);
    }
    const Owned<void*, free_host> host(raw_host);

    std::uint32_t count = WORDS;
    void* arguments[] = {&raw_words, &count};
    const dim3 blocks((WORDS + THREADS - 1) / THREADS);
    if (cudaError_t code = cudaLaunchKernel(fill, blocks, dim3(THREADS), arguments, 0, stream.get())) {
        return failed(code);
    }
    if (cudaError_t code = cudaMemcpyAsync(raw_host, raw_words, BYTES, cudaMemcpyDeviceToHost, stream.get())) {
        return failed(code);
    }
    if (cudaError_t code = cudaEventRecord(event.get(), stream.get())) {
        return failed(code);
    }
    if (cudaError_t code = cudaEventSynchronize(event.get())) {
        return failed(code);
    }
    const auto* received = static_cast<const std::uint32_t*>(raw_host);
    for (std::uint32_t index = 0; index < WORDS; ++index) {
        if (received[index] != pattern(index)) {
            return TNB_CUDA_WRONG_BYTES;
        }
    }
    return TNB_CUDA_OK;
}

}  // namespace

// The current device, the last error and the capture mode all belong to a thread: one of its own leaves the caller's
// alone, where setting the device back would make a context on it.
int tnb_cuda_selftest(int device) {
    int result = failed(cudaErrorOperatingSystem);
    try {
        std::thread([&result, device] { result = run_on_this_thread(device); }).join();
    } catch (const std::system_error&) {
        return failed(cudaErrorOperatingSystem);
    }
    return result;
}

const char* tnb_cuda_error_name(int code) {
    return code == TNB_CUDA_WRONG_BYTES ? "wrong bytes" : cudaGetErrorName(static_cast<cudaError_t>(code));
}

int tnb_cuda_driver_version() {
    int version = 0;
    return cudaDriverGetVersion(&version) == cudaSuccess ? version : 0;
}

int tnb_cuda_runtime_version() {
    int version = 0;
    return cudaRuntimeGetVersion(&version) == cudaSuccess ? version : 0;
}
