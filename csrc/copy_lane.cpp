#include "copy_lane.h"

#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <atomic>
#include <iterator>
#include <utility>

#include "device.h"

namespace tnb {
namespace {

// Lanes are only ever added, so the list is read without a lock. They are leaked: at exit flights may be under way, and
// streams and events are not ours to destroy any more.
std::atomic<CopyLane*> newest{nullptr};
std::mutex adding;

}  // namespace

CopyLane::CopyLane(c10::Stream stream) : stream_(stream), native_stream_(native_handle(stream)) {}

CopyLane* CopyLane::find(c10::Device device) noexcept {
    CopyLane* lane = newest.load(std::memory_order_acquire);
    while (lane != nullptr && lane->device() != device) lane = lane->older_;
    return lane;
}

CopyLane& CopyLane::of(c10::Device device) {
    if (CopyLane* known = find(device)) return *known;
    const c10::DeviceGuard guard(device);
    const c10::impl::VirtualGuardImpl impl(device.type());
    std::unique_ptr<CopyLane> made(new CopyLane(impl.getStreamFromGlobalPool(device, /*isHighPriority=*/true)));
    const std::lock_guard<std::mutex> lock(adding);
    if (CopyLane* known = find(device)) return *known;  // another thread has made it meanwhile
    made->older_ = newest.load(std::memory_order_relaxed);
    newest.store(made.get(), std::memory_order_release);
    return *made.release();
}

std::vector<CopyLane*> CopyLane::all() {
    std::vector<CopyLane*> lanes;
    for (CopyLane* lane = newest.load(std::memory_order_acquire); lane != nullptr; lane = lane->older_) {
        lanes.push_back(lane);
    }
    return lanes;
}

std::shared_ptr<c10::Event> CopyLane::event(bool timing) {
    auto& idle = events_[timing ? 1 : 0];
    std::unique_ptr<c10::Event> event;
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (!idle.empty()) {
            event = std::move(idle.back());
            idle.pop_back();
        }
    }
    if (event == nullptr) {
        const auto flag = timing ? c10::EventFlag::BACKEND_DEFAULT : c10::EventFlag::PYTORCH_DEFAULT;
        event = std::make_unique<c10::Event>(stream_.device_type(), flag);
    }
    return {event.release(), [this, &idle](c10::Event* used) {
                const std::lock_guard<std::mutex> lock(mutex_);
                idle.emplace_back(used);
            }};
}

void CopyLane::add(std::shared_ptr<Flight> flight) {
    const std::lock_guard<std::mutex> lock(mutex_);
    in_flight_.push_back(std::move(flight));
}

void CopyLane::add_unrecorded(Flights flights) {
    if (flights.empty()) return;
    const std::lock_guard<std::mutex> lock(mutex_);
    if (unrecorded_.empty()) return unrecorded_.swap(flights);
    std::move(flights.begin(), flights.end(), std::back_inserter(unrecorded_));
}

Flights CopyLane::take_unrecorded() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return std::exchange(unrecorded_, {});
}

void CopyLane::sweep() {
    Flights unanswered;
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        unanswered.swap(unanswered_);
    }
    for (auto& flight : unanswered) {
        if (flight->look() == Flight::Progress::landed) continue;
        const std::lock_guard<std::mutex> lock(mutex_);
        unanswered_.push_back(std::move(flight));
    }
    while (sweep_oldest()) {
    }
}

bool CopyLane::sweep_oldest() {
    std::shared_ptr<Flight> oldest;
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (in_flight_.empty()) return false;
        oldest = in_flight_.front();
    }
    // Not whether it is over for its Transfer: one that failed while its event is still to come waits for that here.
    if (oldest->look() == Flight::Progress::running) return false;
    const std::lock_guard<std::mutex> lock(mutex_);
    // Another thread may have swept it meanwhile.
    if (in_flight_.empty() || in_flight_.front() != oldest) return true;
    if (!oldest->landed()) unanswered_.push_back(oldest);
    in_flight_.pop_front();
    return true;
}

Flights CopyLane::in_flight() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return {in_flight_.begin(), in_flight_.end()};
}

bool CopyLane::idle() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return in_flight_.empty();
}

}  // namespace tnb
