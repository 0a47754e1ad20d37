#pragma once

#include <c10/core/Device.h>
#include <c10/core/Event.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "layout.h"
#include "process.h"
#include "waiting.h"

namespace tnb {

class CopyLane;
class Flight;
class Profile;

// What a profile keeps: when things happened, on the host's clock and on the device's own. Which of the device's
// moments is which of the host's, and what follows from all of them, is Python's affair (torch_np_bridge/_timeline.py).

struct HostSpan {
    int thread;
    Clock::time_point begin, end;
};

// On the device's clock, in seconds after the anchor of the device.
struct DeviceTimes {
    double computed;  // the producer had done what was submitted before the call
    double started;   // the copies began, behind that and behind earlier copies
    double ended;
};

// The copies of one flight, or one that was made in the call itself.
class ProfiledCopies {
public:
    struct Times {
        std::optional<double> computed;     // as in DeviceTimes, where there is only this
        std::optional<DeviceTimes> device;  // nothing where the device cannot say
        Clock::time_point submitted, started;
        std::optional<Clock::time_point> ended;  // when it was seen
    };

    // The events are for timing; nullptr where there is none.
    ProfiledCopies(c10::Device device, Clock::time_point submitted, std::shared_ptr<c10::Event> anchor,
                   std::shared_ptr<c10::Event> computed)
        : device_(device), submitted_(submitted), anchor_(std::move(anchor)), computed_(std::move(computed)) {}

    // By the thread that submits, before and behind the copies; `flight` is what they belong to.
    bool timed() const noexcept { return anchor_ != nullptr; }
    void start(CopyLane& lane);
    void ended_by(std::shared_ptr<c10::Event> event) { ended_ = std::move(event); }
    void belong_to(std::shared_ptr<Flight> flight) { flight_ = std::move(flight); }
    // By whoever makes the copies, where that is a thread of the host.
    void begin_on_host();
    void end_on_host();

    // Whether the end is known, of copies that were seen to have ended; asks the device for the times, once.
    bool settle();
    // The end was seen now, if it was.
    void look() noexcept;
    c10::Device device() const noexcept { return device_; }
    Times times();

private:
    const c10::Device device_;
    const Clock::time_point submitted_;
    std::shared_ptr<c10::Event> anchor_, computed_, started_, ended_;
    std::shared_ptr<Flight> flight_;
    std::mutex mutex_;  // guards what follows; the events too, once they are submitted
    std::optional<Clock::time_point> begun_, seen_;
    std::optional<double> computed_at_;
    std::optional<DeviceTimes> at_;
    bool settled_ = false;
};

// One call of submit().
class ProfiledCall {
public:
    static constexpr std::array<const char*, 6> routes{"view", "host", "empty", "dense", "gather", "staged"};
    static constexpr std::size_t host = 1, staged = 5;

    explicit ProfiledCall(Profile& profile);

    // By the thread that submits, before any other knows of the call.
    void add(const Layout& layout, bool on_host);
    void move(const Layout& layout, std::size_t route);
    // Copies of a lane follow; whether they can be timed there. The event is what they wait for.
    bool begin_copies(CopyLane& lane);
    void computed_by(std::shared_ptr<c10::Event> event) { next_.computed = std::move(event); }
    std::shared_ptr<ProfiledCopies> add_copies();
    void add_copies_on_host(c10::Device device, Clock::time_point begin);
    void submitted();

    // A thread of the host was held up by this call, from `begin` to now.
    void waited_since(Clock::time_point begin);
    bool settle();

    struct Report {
        int thread;
        Clock::time_point begin, returned;
        std::array<std::size_t, routes.size()> leaves;
        std::size_t bytes;
        std::vector<HostSpan> waits;
        std::vector<std::shared_ptr<ProfiledCopies>> copies;
    };
    Report report();

private:
    Profile& profile_;  // used in the submission only
    const int thread_;
    const Clock::time_point begin_ = Clock::now();
    Clock::time_point returned_ = begin_;
    std::array<std::size_t, routes.size()> leaves_{};
    std::size_t bytes_ = 0;  // that come from a device
    struct {
        std::optional<c10::Device> device;
        Clock::time_point submitted;
        std::shared_ptr<c10::Event> anchor, computed;
    } next_;
    std::vector<std::shared_ptr<ProfiledCopies>> copies_;
    std::mutex mutex_;  // guards what follows
    std::vector<HostSpan> waits_;
};

// The calls of one engine while it was profiled, of all threads.
class Profile {
public:
    // An event of each device that all its times are counted from, and the host's times between which it passed.
    struct Anchor {
        c10::Device device;
        std::shared_ptr<c10::Event> event;
        Clock::time_point recorded;
        std::optional<Clock::time_point> seen;
    };

    std::shared_ptr<ProfiledCall> begin_call();
    void add(std::shared_ptr<ProfiledCall> call);
    // nullptr where the device has no events that tell the time.
    std::shared_ptr<c10::Event> anchor(CopyLane& lane);

    Clock::time_point begin() const noexcept { return begin_; }
    std::vector<Anchor> anchors();
    // All that were submitted, in that order.
    std::vector<std::shared_ptr<ProfiledCall>> calls();

private:
    void settle_oldest();

    const Clock::time_point begin_ = Clock::now();
    std::mutex mutex_;  // guards what follows; no device call is made under it
    std::vector<Anchor> anchors_;
    std::vector<std::shared_ptr<ProfiledCall>> calls_;
    std::size_t settled_ = 0;  // of the calls, the first ones
};

// Whether an engine is profiled, and by what. Never a forked child by what it inherits: another thread may have had any
// of the locks at the fork.
class Profiling {
public:
    bool active() const noexcept {
        const pid_t process = process_.load(std::memory_order_relaxed);
        return process != 0 && process == getpid();
    }
    // nullptr where it is not; that costs a load and a branch.
    std::shared_ptr<Profile> current() { return active() ? locked() : nullptr; }
    // nullptr where one is active already.
    std::shared_ptr<Profile> start();
    void stop();

private:
    std::shared_ptr<Profile> locked();

    std::atomic<pid_t> process_{0};  // that is profiled
    std::mutex mutex_;               // guards the pointer
    std::shared_ptr<Profile> profile_;
};

// The time that a thread of the host spends in a scope because of a call, if that is profiled.
class ProfiledWait {
public:
    // A child waits for nothing of the call that it inherits.
    explicit ProfiledWait(ProfiledCall* call) : call_(process_is_forked_child() ? nullptr : call) {
        if (call_ != nullptr) begin_ = Clock::now();
    }
    // A copy from a device that the thread makes by itself, and waits for.
    ProfiledWait(ProfiledCall* call, c10::Device device) : ProfiledWait(device.is_cpu() ? nullptr : call) {
        device_ = device;
    }
    ProfiledWait(const ProfiledWait&) = delete;
    ProfiledWait& operator=(const ProfiledWait&) = delete;
    ~ProfiledWait();

private:
    ProfiledCall* const call_;
    std::optional<c10::Device> device_;
    Clock::time_point begin_;
};

}  // namespace tnb
