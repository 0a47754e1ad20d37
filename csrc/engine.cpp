#include "engine.h"

#include <ATen/EmptyTensor.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <utility>

#include "copy_lane.h"
#include "copy_routes.h"
#include "device.h"
#include "process.h"

namespace tnb {
namespace {

// A storage that is resized in flight gives the memory away. A move of the counter proves a change of this source only
// where the source is all of its storage: views share one counter, and a neighbour may be what was written. Inference
// tensors have none.
void watch(const at::Tensor& tensor, std::size_t leaf, Flight::Cargo& cargo) {
    const c10::StorageImpl* storage = tensor.storage().unsafeGetStorageImpl();
    Watched& watched = cargo.watched.emplace_back(Watched{storage, storage->data(), {}, 0, leaf});
    const bool whole = tensor.storage().nbytes() ==
                       at::detail::computeStorageNbytes(tensor.sizes(), tensor.strides(), tensor.element_size());
    if (tensor.is_inference() || !whole) return;
    watched.counter = tensor.unsafeGetTensorImpl()->version_counter();
    watched.version = watched.counter.current_version();
}

}  // namespace

bool is_plain(const at::Tensor& tensor) {
    constexpr auto known = c10::DispatchKeySet({c10::DispatchKey::Dense, c10::DispatchKey::ADInplaceOrView,
                                                c10::DispatchKey::AutogradFunctionality, c10::DispatchKey::Conjugate,
                                                c10::DispatchKey::Negative}) |
                           c10::autocast_dispatch_keyset;
    constexpr auto backends = c10::DispatchKeySet(c10::DispatchKeySet::RAW, c10::full_backend_mask);
    // operator- of key sets keeps backend bits, so what is left over is asked by a union instead.
    const auto allowed = known | backends;
    return (tensor.key_set() | allowed) == allowed && tensor.layout() == c10::kStrided && !tensor.is_meta() &&
           tensor.dim() <= max_dims;
}

Engine::~Engine() {
    for (const auto& [type, pool] : pools_) pool->retire();
}

struct Engine::Share {
    c10::Device device;
    RelaxedCapture relaxed;
    CopyLane* lane;  // nullptr where copies are synchronous
    std::vector<Leaf> leaves;
};

// One for each device, all refused before anything is enqueued; most often there is one.
Engine::Shares Engine::shares_of(at::ArrayRef<at::Tensor> tensors) {
    Shares shares;
    for (const at::Tensor& tensor : tensors) {
        if (tensor.is_cpu() || find(shares, tensor.device()) != nullptr) continue;
        const c10::Device device = tensor.device();
        if (process_is_forked_child()) throw forked_child_error(device.str());
        shares.push_back({device, RelaxedCapture(device.type()), nullptr, {}});
        refuse_capture(device);
        if (copies_asynchronously(device)) shares.back().lane = &CopyLane::of(device);
    }
    return shares;
}

Engine::Share* Engine::find(Shares& shares, c10::Device device) noexcept {
    const auto found = std::find_if(shares.rbegin(), shares.rend(), [device](auto& it) { return it.device == device; });
    return found == shares.rend() ? nullptr : &*found;
}

Submission Engine::submit(at::ArrayRef<at::Tensor> given, at::ArrayRef<Destination> out, SubmitOptions options) {
    Shares shares = shares_of(given);
    const std::shared_ptr<Profile> profile = profiling_.current();
    const std::shared_ptr<ProfiledCall> profiled = profile == nullptr ? nullptr : profile->begin_call();
    options.profiled = profiled.get();
    std::vector<at::Tensor> snapshots;
    if (options.snapshot) {
        for (const at::Tensor& tensor : given) {
            snapshots.push_back(snapshot(tensor, options.casts.of(tensor.scalar_type())));
        }
        options.casts = {};  // they are made
    }
    const at::ArrayRef<at::Tensor> tensors = options.snapshot ? snapshots : given;
    Submission submission{{}, std::vector<HostValues>(tensors.size()), profiled};
    for (std::size_t index = 0; index < tensors.size(); ++index) {
        const at::Tensor& tensor = tensors[index];
        HostValues& values = submission.values[index];
        Share* share = tensor.is_cpu() ? nullptr : find(shares, tensor.device());
        const Destination* destination = out.empty() ? nullptr : &out[index];
        const c10::ScalarType dtype = options.casts.of(tensor.scalar_type());
        const LeafTraits traits{
            .on_host = tensor.is_cpu(),
            .asynchronous = share != nullptr && share->lane != nullptr,
            .lazy_bits = tensor.is_conj() || tensor.is_neg(),
            .fresh = options.fresh,
            .cast = dtype != tensor.scalar_type(),
            .dense = tensor.is_non_overlapping_and_dense(),
        };
        Layout layout = plan(tensor.sizes(), tensor.strides(), dtype, traits);
        if (destination != nullptr && destination->dense) lay_out_as(destination->strides, tensor.sizes(), layout);
        if (profiled != nullptr) profiled->add(layout, tensor.is_cpu());
        switch (layout.route) {
            case Route::view:
                values = tensor;
                break;
            case Route::host: {
                const ProfiledWait wait(options.profiled, tensor.device());
                values = to_host(tensor, dtype, options.fresh);
                break;
            }
            case Route::empty:
                values = CopiedValues{{}, nullptr, dtype, at::DimVector(tensor.sizes()), layout.strides};
                if (destination != nullptr) values = Delivered{};
                break;
            case Route::dense:
            case Route::gather:
                share->leaves.push_back({&tensor, &values, std::move(layout), index, destination});
        }
    }
    try {
        for (const Share& share : shares) {
            if (!share.leaves.empty()) start(*share.lane, share.leaves, options, submission.transfer);
        }
    } catch (...) {
        // Nobody will ask about what is under way already.
        worker_.sweep_lanes();
        throw;
    }
    count(shares);
    if (profiled != nullptr) profile->add(profiled);
    return submission;
}

// Only at the end: a submit that fails leaves every counter as it was.
void Engine::count(const Shares& shares) {
    std::size_t transfers = 0;
    for (const Share& share : shares) {
        for (const Leaf& leaf : share.leaves) count(leaf);
        if (!share.leaves.empty()) transfers = 1;
    }
    transfers_.fetch_add(transfers, std::memory_order_relaxed);
}

void Engine::count(const Leaf& leaf) {
    const auto* copied = std::get_if<CopiedValues>(leaf.values);
    const bool pooled = leaf.out == nullptr ? copied != nullptr && std::holds_alternative<HostBlock>(copied->memory)
                                            : leaf.out->is_written_by(leaf.tensor->device());
    if (pooled) bytes_copied_.fetch_add(leaf.layout.bytes, std::memory_order_relaxed);
    if (!pooled && leaf.out == nullptr) leaves_unpooled_.fetch_add(1, std::memory_order_relaxed);
}

void Engine::start(CopyLane& lane, const std::vector<Leaf>& leaves, SubmitOptions options, Transfer& transfer) {
    const c10::Device device = lane.device();
    const c10::DeviceGuard on_device(device);
    lane.sweep();
    Pooled pooled = take_blocks(leaves, *pool(device.type()), options.fresh);
    std::vector<const Leaf*> unpooled;
    for (const Leaf& leaf : leaves) {
        if (!std::holds_alternative<at::Tensor>(*leaf.values)) continue;
        // A process that exits has no workers any more.
        if ((options.blocking && leaf.layout.bytes < StagingRing::chunk_bytes) || process_is_exiting()) {
            if (options.profiled != nullptr) options.profiled->move(leaf.layout, ProfiledCall::host);
            const ProfiledWait wait(options.profiled, device);
            *leaf.values = to_host(*leaf.tensor, leaf.layout.dtype, /*fresh=*/false);
        } else {
            unpooled.push_back(&leaf);
        }
    }
    if (pooled.leaves.empty() && unpooled.empty()) return;
    const c10::Stream producer = c10::impl::VirtualGuardImpl(device.type()).getStream(device);
    const bool timed = options.profiled != nullptr && options.profiled->begin_copies(lane);
    if (producer != lane.stream()) {
        const auto ready = lane.event(timed);
        ready->record(producer);
        ready->block(lane.stream());
        if (timed) options.profiled->computed_by(ready);
    }
    if (!pooled.leaves.empty()) transfer.add(enqueue(lane, std::move(pooled), options));
    if (!unpooled.empty()) transfer.add(stage_later(lane, unpooled, options));
}

std::shared_ptr<Flight> Engine::enqueue(CopyLane& lane, Pooled pooled, SubmitOptions options) {
    Flight::Cargo cargo;
    cargo.blocks = std::move(pooled.blocks);
    cargo.sources.reserve(pooled.leaves.size());
    if (!options.snapshot) cargo.watched.reserve(pooled.leaves.size());
    for (const PooledLeaf& leaf : pooled.leaves) {
        cargo.sources.push_back(leaf.source->storage());
        if (!options.snapshot) watch(*leaf.source, leaf.leaf, cargo);
    }
    const auto profiled = options.profiled == nullptr ? nullptr : options.profiled->add_copies();
    auto completion = lane.event(profiled != nullptr && profiled->timed());
    cargo.before = lane.take_unrecorded();
    std::exception_ptr failure;
    try {
        if (profiled != nullptr) profiled->start(lane);
        enqueue_pooled(pooled.leaves, cargo.blocks, lane);
        completion->record(lane.stream());
    } catch (...) {
        failure = std::current_exception();
    }
    if (failure != nullptr) {
        // Some copies may be under way. What they use must live until they have ended: behind a second attempt at the
        // event, or behind that of the next flight where this one fails too.
        try {
            completion->record(lane.stream());
        } catch (...) {
            completion.reset();
        }
    }
    Flights unrecorded;
    const bool recorded = completion != nullptr;
    if (!recorded) unrecorded.swap(cargo.before);
    if (profiled != nullptr) profiled->ended_by(completion);
    auto flight = std::make_shared<Flight>(lane.device(), std::move(completion), std::move(cargo), this);
    if (profiled != nullptr) profiled->belong_to(flight);
    if (failure != nullptr) flight->fail(failure);
    lane.add(flight);
    if (!recorded) unrecorded.push_back(flight);
    lane.add_unrecorded(std::move(unrecorded));
    if (failure != nullptr) std::rethrow_exception(failure);
    return flight;
}

std::shared_ptr<Flight> Engine::stage_later(CopyLane& lane, const std::vector<const Leaf*>& leaves,
                                            SubmitOptions options) {
    Flight::Cargo cargo;
    auto staged = std::make_shared<StagedCopy>();
    staged->lane = &lane;
    staged->rings = limit_->rings;
    staged->pool = pool(lane.device().type());
    for (const Leaf* leaf : leaves) {
        cargo.sources.push_back(leaf->tensor->storage());
        if (!options.snapshot) watch(*leaf->tensor, leaf->index, cargo);
        // A tensor of our own over the storage: the worker must not drop the last reference to one that Python knows.
        StagedCopy::Leaf& to =
            staged->leaves.emplace_back(StagedCopy::Leaf{alias(*leaf->tensor), leaf->layout, {}, {}});
        if (leaf->out != nullptr && leaf->out->dense) {
            to.memory = {leaf->out->owner, leaf->out->data};
        } else {
            const auto block = std::make_shared<OrdinaryBlock>(OrdinaryBlock::allocate(leaf->layout.bytes));
            to.memory = {block, static_cast<char*>(block->data())};
            *leaf->values = CopiedValues{block, block->data(), leaf->layout.dtype, at::DimVector(leaf->tensor->sizes()),
                                         leaf->layout.strides};
        }
        if (leaf->out == nullptr) continue;
        if (!leaf->out->dense) to.spread = {{leaf->out->owner, leaf->out->data}, leaf->out->strides};
        *leaf->values = Delivered{};
    }
    staged->flight = std::make_shared<Flight>(lane.device(), nullptr, std::move(cargo), this);
    if (options.profiled != nullptr) {
        for (const Leaf* leaf : leaves) options.profiled->move(leaf->layout, ProfiledCall::staged);
        staged->profiled = options.profiled->add_copies();
        staged->profiled->belong_to(staged->flight);
    }
    worker_.run([staged] { stage(staged); });
    return staged->flight;
}

bool Engine::wait_for_all(Clock::time_point deadline) {
    if (process_is_forked_child()) return true;
    Transfer mine;
    for (CopyLane* lane : CopyLane::all()) {
        for (auto& flight : lane->in_flight()) {
            if (flight->engine() == this) mine.add(std::move(flight));
        }
    }
    return mine.wait_until(deadline) && worker_.wait_idle(deadline);
}

}  // namespace tnb
