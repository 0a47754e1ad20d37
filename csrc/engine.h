#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/SmallVector.h>

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <variant>
#include <vector>

#include "casts.h"
#include "destination.h"
#include "host_fences.h"
#include "host_pool.h"
#include "layout.h"
#include "ordinary_memory.h"
#include "packing.h"
#include "profile.h"
#include "staging.h"
#include "transfer.h"
#include "worker.h"

namespace tnb {

class CopyLane;

// Values that a transfer brings to the host: to be read only after it has ended.
struct CopiedValues {
    std::variant<HostBlock, std::shared_ptr<OrdinaryBlock>> memory;  // an empty block where there is no element
    void* data;                                                      // of the first value, somewhere in the memory
    c10::ScalarType dtype;
    at::DimVector sizes;
    at::DimVector strides;  // in elements
};

// The caller's own array has the values, or will have them.
struct Delivered {};

// All that the array of one leaf needs to know: values that are on the host already, or will be.
using HostValues = std::variant<at::Tensor, CopiedValues, Delivered>;

// NumPy's limit, which is also in the words of torch_np_bridge/refusals.py.
constexpr std::int64_t max_dims = 64;

// Whether the tensor's own memory, with its sizes and strides, is all there is to it, and an array can have them. Conj
// and neg bits aside: those are lazy, and the routes know them.
bool is_plain(const at::Tensor& tensor);

struct SubmitOptions {
    bool fresh = false;     // memory of its own for every leaf
    bool snapshot = false;  // of the sources as they are now, so that the caller may overwrite them at once
    bool blocking = false;  // the caller is going to wait: a short copy need not be handed to the worker
    Casts casts;            // made before the copies, on the device
    ProfiledCall* profiled = nullptr;
};

// What the engines that share a limit share.
struct SharedLimit {
    explicit SharedLimit(std::size_t bytes) : budget(std::make_shared<PinnedBudget>(bytes)) {}

    const std::shared_ptr<PinnedBudget> budget;
    const std::shared_ptr<StagingRings> rings = std::make_shared<StagingRings>();
};

struct EngineStats {
    PoolStats pool;          // of all device types together
    std::size_t limit = 0;   // of the budget
    std::size_t budget = 0;  // bytes held by all engines that share the budget
    std::size_t transfers = 0;
    std::size_t bytes_copied = 0;     // to page-locked memory
    std::size_t leaves_unpooled = 0;  // and blocks for the host, in ordinary memory since no other was to be had
};

struct Submission {
    Transfer transfer;
    std::vector<HostValues> values;          // in the order of the tensors
    std::shared_ptr<ProfiledCall> profiled;  // or nullptr
};

// Orders the copy stream behind the producer's, runs the routes, records the completion. Knows neither Python nor
// NumPy; every function may be called from any thread, and none holds a lock while it calls the device.
class Engine {
public:
    // `poison`: page-locked memory is overwritten when it comes back.
    Engine(std::shared_ptr<SharedLimit> limit, bool poison) : limit_(std::move(limit)), poison_(poison) {}
    Engine(const Engine&) = delete;
    Engine& operator=(const Engine&) = delete;
    // Does not wait: flights go on, and the memory goes home as they land.
    ~Engine();

    // The tensors must be plain; they are the caller's to drop, with the GIL. Where it throws, nothing is left behind
    // but copies that are already under way; what they use lives until they have ended. `out`: one for each tensor, or
    // none at all. Values that come back as a tensor are the caller's to copy there.
    Submission submit(at::ArrayRef<at::Tensor> tensors, at::ArrayRef<Destination> out, SubmitOptions options);

    // Memory for the host to write to, which a device can read from and write to behind our back, where there is any:
    // without a device, at the limit and in a forked child it is ordinary.
    CopiedValues empty(std::optional<c10::Device> device, std::size_t bytes);

    // Waits until what this engine started has ended, or the deadline has come; whether it has ended.
    bool wait_for_all(Clock::time_point deadline);

    // Give page-locked memory that no array and no copy uses back to the system, that of engines that are gone too.
    void trim();
    // Somebody has lost interest in a transfer that has not ended: what it holds is let go as soon as it has.
    void release_when_ended() { worker_.sweep_lanes(); }
    // Call `notify`, on the worker, once the transfer has ended, well or not; it must not throw.
    void when_ended(std::shared_ptr<Transfer> transfer, Worker::Job notify) {
        worker_.watch(std::move(transfer), std::move(notify));
    }
    EngineStats stats();
    // What is submitted while it is profiled leaves its times there.
    Profiling& profiling() noexcept { return profiling_; }

private:
    struct Leaf {
        const at::Tensor* tensor;
        HostValues* values;
        Layout layout;
        std::size_t index;       // in the submission
        const Destination* out;  // or nullptr
    };
    // What a submission has on one device.
    struct Share;
    using Shares = c10::SmallVector<Share, 1>;
    struct Pooled {
        std::vector<PooledLeaf> leaves;
        std::vector<HostBlock> blocks;
    };

    static Shares shares_of(at::ArrayRef<at::Tensor> tensors);
    static Share* find(Shares& shares, c10::Device device) noexcept;
    void count(const Shares& shares);
    void start(CopyLane& lane, const std::vector<Leaf>& leaves, SubmitOptions options, Transfer& transfer);
    void count(const Leaf& leaf);
    HostBlock page_locked_for_host(c10::Device device, std::size_t bytes);
    Pooled take_blocks(const std::vector<Leaf>& leaves, HostPool& pool, bool fresh);
    std::shared_ptr<Flight> enqueue(CopyLane& lane, Pooled pooled, SubmitOptions options);
    std::shared_ptr<Flight> stage_later(CopyLane& lane, const std::vector<const Leaf*>& leaves, SubmitOptions options);
    std::shared_ptr<HostPool> pool(c10::DeviceType type);
    std::vector<std::shared_ptr<HostPool>> pools();

    const std::shared_ptr<SharedLimit> limit_;
    const bool poison_;
    std::atomic<std::size_t> transfers_{0};
    std::atomic<std::size_t> bytes_copied_{0};
    std::atomic<std::size_t> leaves_unpooled_{0};
    std::mutex mutex_;  // guards the two maps; fences that are there stay
    std::map<c10::DeviceType, std::shared_ptr<HostPool>> pools_;
    std::map<c10::DeviceType, HostFences> fences_;
    Profiling profiling_;
    Worker worker_;
};

}  // namespace tnb
