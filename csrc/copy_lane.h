#pragma once

#include <c10/core/Event.h>
#include <c10/core/Stream.h>

#include <array>
#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "transfer.h"
#include "waiting.h"

namespace tnb {

// The copy stream of one device, its events and what is in flight on it. One per device and process, for good: every
// engine copies on it, and flights outlive the engine that started them.
class CopyLane {
public:
    static CopyLane& of(c10::Device device);
    // Every lane that was ever used.
    static std::vector<CopyLane*> all();

    CopyLane(const CopyLane&) = delete;
    CopyLane& operator=(const CopyLane&) = delete;

    c10::Device device() const noexcept { return stream_.device(); }
    c10::Stream stream() const noexcept { return stream_; }
    // The stream as the driver's own functions take it.
    std::optional<void*> native_stream() const noexcept { return native_stream_; }

    // Memory of the device that only makes a copy faster is not asked for again for a while once it was refused: before
    // an allocator refuses it may wait for the device, and give back all that it has cached.
    bool may_have_memory() const noexcept { return Clock::now() >= refused_until_.load(std::memory_order_relaxed); }
    void note_refused_memory() noexcept { refused_until_ = Clock::now() + std::chrono::seconds(10); }

    // An event of this lane that returns to it when the last owner drops it; in the steady state none is created. One
    // with timing, which costs the device more, is for profiles.
    std::shared_ptr<c10::Event> event(bool timing = false);

    void add(std::shared_ptr<Flight> flight);
    // Flights with no event behind their copies. The stream runs one copy after the other: who takes them before an
    // event is recorded, knows at that event that they have ended.
    void add_unrecorded(Flights flights);
    Flights take_unrecorded();
    // Release what belongs to flights that have landed, oldest first; one query where none has.
    void sweep();
    Flights in_flight();
    bool idle();

private:
    explicit CopyLane(c10::Stream stream);
    static CopyLane* find(c10::Device device) noexcept;

    bool sweep_oldest();

    const c10::Stream stream_;
    const std::optional<void*> native_stream_;
    std::atomic<Clock::time_point> refused_until_{Clock::time_point::min()};
    CopyLane* older_ = nullptr;  // in the list of all lanes
    std::mutex mutex_;           // guards the containers; no device call is made under it
    std::array<std::vector<std::unique_ptr<c10::Event>>, 2> events_;  // without timing, and with it
    std::deque<std::shared_ptr<Flight>> in_flight_;
    // Flights whose event could not be queried: they hold their memory until one day it can.
    Flights unanswered_;
    Flights unrecorded_;
};

}  // namespace tnb
