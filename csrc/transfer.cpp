#include "transfer.h"

#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <stdexcept>

#include "device.h"
#include "gil.h"
#include "process.h"

namespace tnb {

std::atomic<std::uint64_t> Flight::endings_{0};

Flight::Flight(c10::Device device, std::shared_ptr<c10::Event> completion, Cargo cargo, const void* engine)
    : device_(device), engine_(engine), completion_(std::move(completion)), cargo_(std::move(cargo)) {}

bool Flight::poll() {
    return look() != Progress::running || over();
}

Flight::Progress Flight::look() {
    if (landed()) return Progress::landed;
    if (process_is_forked_child()) return Progress::unanswered;  // without the lock: it may be held for good
    std::shared_ptr<c10::Event> completion;
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (landed()) return Progress::landed;
        if (completion_ == nullptr && process_is_exiting() && error_ == nullptr) {
            error_ = std::make_exception_ptr(process_exit_error());
        }
        if (completion_ == nullptr) return error_ == nullptr ? Progress::running : Progress::unanswered;
        completion = completion_;
    }
    const RelaxedCapture relaxed(device_.type());  // for what is let go of, too
    try {
        const c10::DeviceGuard guard(device_);
        if (!completion->query()) return Progress::running;
    } catch (...) {
        fail(std::current_exception());
        return Progress::unanswered;
    }
    land();
    return Progress::landed;
}

void Flight::land() {
    std::shared_ptr<c10::Event> completion;
    Cargo cargo;
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        look_for_mutations();
        completion.swap(completion_);
        std::swap(cargo, cargo_);
        landed_.store(true, std::memory_order_release);
    }
    endings_.fetch_add(1, std::memory_order_release);
    for (const auto& flight : cargo.before) flight->land();
    cargo.more.reset();  // before the sources, which may be known to Python
    drop(std::move(cargo.sources));
}

void Flight::keep(std::shared_ptr<void> more) {
    const std::lock_guard<std::mutex> lock(mutex_);
    cargo_.more = std::move(more);
}

void Flight::fail(std::exception_ptr error) noexcept {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (error_ == nullptr) error_ = std::move(error);
    }
    failed_.store(true, std::memory_order_release);
    endings_.fetch_add(1, std::memory_order_release);
}

void Flight::look_for_mutations() {
    const auto moved =
        std::find_if(cargo_.watched.begin(), cargo_.watched.end(), [](const Watched& w) { return w.moved(); });
    if (moved != cargo_.watched.end() && !mutated_leaf_) mutated_leaf_ = moved->leaf;
}

std::optional<std::size_t> Flight::mutated_leaf() {
    if (landed()) return mutated_leaf_;  // for good; in a forked child another thread may have had the lock
    const std::lock_guard<std::mutex> lock(mutex_);
    return mutated_leaf_;
}

bool Flight::has_event_or_ended() {
    if (landed() || process_is_forked_child()) return true;  // as above
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (completion_ != nullptr) return true;
    }
    return poll();
}

void Flight::block(std::optional<c10::Stream> stream) {
    if (landed()) return;  // as above
    if (process_is_forked_child()) throw forked_child_error(device_.str());
    std::shared_ptr<c10::Event> completion;
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        look_for_mutations();
        completion = completion_;
    }
    if (completion == nullptr) return;
    const RelaxedCapture relaxed(device_.type());
    if (!stream.has_value()) stream = c10::impl::VirtualGuardImpl(device_.type()).getStream(device_);
    refuse_capture(*stream);
    {
        const c10::DeviceGuard guard(stream->device());
        completion->block(*stream);
    }
    // Only now: had it failed, a change in place would still be a danger.
    const std::lock_guard<std::mutex> lock(mutex_);
    cargo_.watched.clear();
}

std::exception_ptr Flight::error() {
    if (landed()) return error_;  // as above
    if (process_is_forked_child()) return std::make_exception_ptr(forked_child_error(device_.str()));
    const std::lock_guard<std::mutex> lock(mutex_);
    return error_;
}

bool Transfer::done() {
    return std::all_of(flights_.begin(), flights_.end(), [](const auto& flight) { return flight->poll(); });
}

bool Transfer::ended() const {
    return std::all_of(flights_.begin(), flights_.end(), [](const auto& flight) { return flight->landed(); });
}

bool Transfer::over() const {
    return std::all_of(flights_.begin(), flights_.end(), [](const auto& flight) { return flight->over(); });
}

bool Transfer::wait_until(Clock::time_point deadline, Clock::time_point begin) {
    return tnb::wait_until(deadline, [this] { return done(); }, begin);
}

bool Transfer::has_error() {
    return std::any_of(flights_.begin(), flights_.end(), [](const auto& flight) { return flight->error() != nullptr; });
}

void Transfer::rethrow_error() {
    for (const auto& flight : flights_) {
        if (auto error = flight->error()) std::rethrow_exception(error);
    }
}

std::optional<std::size_t> Transfer::mutated_leaf() {
    for (const auto& flight : flights_) {
        if (auto leaf = flight->mutated_leaf()) return leaf;
    }
    return std::nullopt;
}

bool Transfer::wait_for_events(Clock::time_point deadline, Clock::time_point begin) {
    const auto ready = [this] {
        return std::all_of(flights_.begin(), flights_.end(), [](const auto& it) { return it->has_event_or_ended(); });
    };
    return tnb::wait_until(deadline, ready, begin);
}

void Transfer::block(std::optional<c10::Stream> stream) {
    for (const auto& flight : flights_) flight->block(stream);
}

}  // namespace tnb
