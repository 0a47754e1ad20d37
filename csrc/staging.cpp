#include "staging.h"

#include <c10/core/DeviceGuard.h>
#include <c10/core/StreamGuard.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "copy_lane.h"
#include "copy_routes.h"
#include "device.h"
#include "gil.h"
#include "host_pool.h"
#include "ordinary_memory.h"
#include "process.h"
#include "profile.h"
#include "waiting.h"
#include "warnings.h"

namespace tnb {
namespace {

// An event that is recorded while the stream is captured belongs to the graph. No longer than this, since who captures
// may wait for the next staged copy.
constexpr std::chrono::seconds patience_with_captures{1};

// Waits until the device has done all that was enqueued on the lane; false where that cannot be known.
bool settle(CopyLane& lane) noexcept {
    try {
        const c10::DeviceGuard on_device(lane.device());
        const auto runs = [&lane] { return process_is_exiting() || !is_capturing(lane.stream()); };
        if (!wait_until(Clock::now() + patience_with_captures, runs)) return false;
        const auto behind_all = lane.event();
        behind_all->record(lane.stream());
        wait_until(Clock::time_point::max(), [&] { return process_is_exiting() || behind_all->query(); });
        return !process_is_exiting();
    } catch (...) {
        return false;
    }
}

// The device may be reading the sources and writing to the ring: they are neither freed nor used again before what is
// enqueued next on the lane has ended.
void leave(std::shared_ptr<StagedCopy> staged, std::unique_ptr<StagingRing> ring, Flights before) {
    CopyLane& lane = *staged->lane;
    Flight& flight = *before.emplace_back(staged->flight);
    staged->left = std::move(ring);
    flight.keep(std::move(staged));
    lane.add_unrecorded(std::move(before));
}

}  // namespace

void StagingRing::copy(CopyLane& lane, const at::Tensor& dense, char* destination) {
    const auto itemsize = static_cast<std::size_t>(dense.element_size());
    const auto total = static_cast<std::size_t>(dense.numel());
    const std::size_t per_chunk = chunk_bytes / itemsize;
    for (std::size_t begin = 0; begin < total; begin += per_chunk) {
        const std::size_t count = std::min(per_chunk, total - begin);
        const std::size_t slot = std::exchange(next_, (next_ + 1) % chunks);
        empty(slot);
        refuse_capture_of_copies(lane);  // it may have taken a while
        auto filled = lane.event();
        enqueue_elements(lane, dense, begin, count, chunk(slot));
        filled->record(lane.stream());
        slots_[slot] = {std::move(filled), lane.device().type(), lane.device().index(), destination + begin * itemsize,
                        count * itemsize};
        prefault(slots_[slot].destination, slots_[slot].bytes);
    }
}

void StagingRing::empty(std::size_t index) {
    Slot& slot = slots_[index];
    if (slot.filled == nullptr) return;
    {
        const c10::DeviceGuard guard(c10::Device(slot.device_type, slot.device_index));
        wait_until(Clock::time_point::max(), [&slot] { return process_is_exiting() || slot.filled->query(); });
    }
    if (process_is_exiting()) throw process_exit_error();
    std::memcpy(slot.destination, chunk(index), slot.bytes);
    slot.filled.reset();
}

void StagingRing::drain() {
    for (std::size_t step = 0; step < chunks; ++step) empty((next_ + step) % chunks);
}

void StagingRing::forget() noexcept {
    for (Slot& slot : slots_) slot.filled.reset();
}

std::unique_ptr<StagingRing> StagingRings::take(c10::DeviceType type, HostPool& pool) {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        const auto found =
            std::find_if(idle_.begin(), idle_.end(), [type](const auto& it) { return it.first == type; });
        if (found != idle_.end()) {
            std::unique_ptr<StagingRing> ring = std::move(found->second);
            idle_.erase(found);
            return ring;
        }
    }
    HostBlock memory = pool.acquire_reserved(StagingRing::bytes);
    return memory ? std::make_unique<StagingRing>(std::move(memory)) : nullptr;
}

void StagingRings::put(c10::DeviceType type, std::unique_ptr<StagingRing> ring) noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    try {
        idle_.emplace_back(type, std::move(ring));
    } catch (const std::bad_alloc&) {
        // Its memory goes back to the pool instead.
    }
}

void StagingRings::clear() {
    Idle idle;
    const std::lock_guard<std::mutex> lock(mutex_);
    idle.swap(idle_);
}

void stage(std::shared_ptr<StagedCopy> staged) noexcept {
    CopyLane& lane = *staged->lane;
    const c10::DeviceType type = lane.device().type();
    std::unique_ptr<StagingRing> ring;
    Flights before = lane.take_unrecorded();
    std::exception_ptr failure;
    const RelaxedCapture relaxed(type);
    const KeptWarnings said_to_nobody;
    if (staged->profiled != nullptr) staged->profiled->begin_on_host();
    try {
        const c10::DeviceGuard on_device(lane.device());
        const c10::StreamGuard on_copy_stream(lane.stream());
        ring = staged->rings->take(type, *staged->pool);
        for (const StagedCopy::Leaf& leaf : staged->leaves) {
            const auto copy = [&](const at::Tensor& dense, std::size_t offset) {
                char* destination = leaf.memory.get() + offset;
                if (ring == nullptr) return copy_to_ordinary_memory(dense, leaf.layout, destination);
                ring->copy(lane, dense, destination);
            };
            for_each_dense_part(leaf.source, leaf.layout, copy, [&lane] { refuse_capture_of_copies(lane); });
        }
        if (ring != nullptr) ring->drain();
        for (const StagedCopy::Leaf& leaf : staged->leaves) {
            if (leaf.spread.memory == nullptr) continue;
            copy_on_host(leaf.source.sizes(), leaf.layout.dtype, leaf.layout.strides, leaf.memory.get(),
                         leaf.spread.strides, leaf.spread.memory.get());
        }
    } catch (...) {
        failure = std::current_exception();
    }
    if (failure != nullptr) staged->flight->fail(failure);
    if (ring != nullptr) ring->forget();
    if (process_is_exiting() || (failure != nullptr && !settle(lane))) {
        return leave(std::move(staged), std::move(ring), std::move(before));
    }
    if (ring != nullptr) staged->rings->put(type, std::move(ring));
    for (const auto& flight : before) flight->land();
    // The storages are the flight's to drop.
    for (StagedCopy::Leaf& leaf : staged->leaves) leaf.source.reset();
    if (staged->profiled != nullptr) staged->profiled->end_on_host();
    staged->flight->land();
}

}  // namespace tnb
