#pragma once

#include <c10/core/Event.h>
#include <c10/core/Storage.h>
#include <c10/core/StorageImpl.h>
#include <c10/core/Stream.h>
#include <c10/core/TensorImpl.h>
#include <c10/util/SmallVector.h>

#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "host_block.h"
#include "waiting.h"

namespace tnb {

// The memory of a source and its version counter, and what they were when the copy was submitted. A move before the
// copy was seen to have ended means that the array may hold bytes of both versions, or of whoever got the memory.
struct Watched {
    const c10::StorageImpl* storage;  // kept alive by the cargo's sources
    const void* data;
    c10::VariableVersion counter;  // disabled where its moves prove nothing
    std::uint32_t version;
    std::size_t leaf;  // its index in the submission

    bool moved() const {
        return storage->data() != data || (counter.enabled() && counter.current_version() != version);
    }
};

class Flight;
using Flights = std::vector<std::shared_ptr<Flight>>;

// The copies of one submission on one device, from the first enqueue until they are known to have ended.
//
// Invariant: sources and blocks stay alive until the completion event was seen to have completed. An event that cannot
// be recorded or queried ends the flight for its Transfer, with the error, but releases nothing: the copy may still be
// running. Where none could be recorded, that of a later flight on the same stream tells.
//
// A flight without an event ends by land() or fail(), which whoever makes its copies calls.
class Flight {
public:
    // Most often of one leaf.
    struct Cargo {
        c10::SmallVector<c10::Storage, 1> sources;
        std::vector<HostBlock> blocks;
        c10::SmallVector<Watched, 1> watched;
        Flights before;              // have ended when this one has
        std::shared_ptr<void> more;  // whatever else the copies use
    };

    // `completion` is recorded behind the copies.
    Flight(c10::Device device, std::shared_ptr<c10::Event> completion, Cargo cargo, const void* engine);

    // What the event says of the copies; none, or one that cannot be queried, gives no answer. The first to see that
    // they have landed releases what the flight holds.
    enum class Progress : std::uint8_t { running, landed, unanswered };
    Progress look();
    // The same as whoever waits wants to know it: whether they have ended, well or not. A flight that is known to have
    // failed is over for its Transfer while they may still be running.
    bool poll();
    // The copies have ended: release what they used.
    void land();
    // They use this too.
    void keep(std::shared_ptr<void> more);
    // The copies have failed; what they used is kept unless land() is called too.
    void fail(std::exception_ptr error) noexcept;
    bool landed() const noexcept { return landed_.load(std::memory_order_acquire); }
    // Whether the end was seen already, good or bad; asks no device.
    bool over() const noexcept { return landed() || failed_.load(std::memory_order_acquire); }
    // How many flights have ended so far, in this process: who waits for many need not ask each while it stays.
    static std::uint64_t endings() noexcept { return endings_.load(std::memory_order_acquire); }
    std::exception_ptr error();
    // The leaf whose source was changed in place before the end was seen, if any.
    std::optional<std::size_t> mutated_leaf();
    // Whether a stream can wait for the copies: those that a worker makes have no event, and then must have ended.
    bool has_event_or_ended();
    // What is submitted to the stream (default: the current one of this device) from now on runs behind the copies.
    // Changes in place are no danger any more, as far as they have not happened yet. Called when the above is true.
    void block(std::optional<c10::Stream> stream);
    // The engine that started the flight: an identity, never dereferenced.
    const void* engine() const noexcept { return engine_; }

private:
    // Under the lock:
    void look_for_mutations();

    const c10::Device device_;
    const void* const engine_;
    std::mutex mutex_;  // guards what follows; nothing is queried or freed under it
    std::shared_ptr<c10::Event> completion_;
    Cargo cargo_;
    std::exception_ptr error_;
    std::optional<std::size_t> mutated_leaf_;
    std::atomic<bool> landed_{false};
    std::atomic<bool> failed_{false};
    static std::atomic<std::uint64_t> endings_;
};

// One submission: a flight for each device. Any thread may ask and wait. Copies are of the same submission.
class Transfer {
public:
    void add(std::shared_ptr<Flight> flight) { flights_.push_back(std::move(flight)); }

    bool done();
    // Whether that was seen already; asks no device.
    bool ended() const;
    // The same, and true too where a copy is known to have failed.
    bool over() const;
    // Waits, without spinning for long, until the copies have ended or `deadline` has come; whether they have ended.
    bool wait_until(Clock::time_point deadline, Clock::time_point begin = Clock::now());
    bool has_error();
    // The first error of the copies, once they have ended.
    void rethrow_error();
    std::optional<std::size_t> mutated_leaf();
    // Waits until all flights can be blocked for, or `deadline` has come; whether they can.
    bool wait_for_events(Clock::time_point deadline, Clock::time_point begin);
    void block(std::optional<c10::Stream> stream);

private:
    c10::SmallVector<std::shared_ptr<Flight>, 1> flights_;
};

}  // namespace tnb
