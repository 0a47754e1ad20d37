#include "profile.h"

#include <c10/core/DeviceGuard.h>

#include <algorithm>

#include "copy_lane.h"
#include "device.h"
#include "transfer.h"

namespace tnb {
namespace {

// How long the anchor is waited for: where the device is idle it passes within some ten microseconds, and the two
// clocks are compared to within that; else the transfers themselves have to say more.
constexpr std::chrono::microseconds patience_with_anchor{200};

// Threads by the order in which they were first seen.
int this_thread() {
    static std::atomic<int> known{0};
    thread_local const int number = known.fetch_add(1) + 1;
    return number;
}

double seconds_between(const c10::Event& from, const c10::Event& to) {
    return from.elapsedTime(to) / 1e3;
}

}  // namespace

void ProfiledCopies::start(CopyLane& lane) {
    if (anchor_ == nullptr) return;
    started_ = lane.event(/*timing=*/true);
    started_->record(lane.stream());
}

void ProfiledCopies::begin_on_host() {
    const std::lock_guard<std::mutex> lock(mutex_);
    begun_ = Clock::now();
}

void ProfiledCopies::end_on_host() {
    const std::lock_guard<std::mutex> lock(mutex_);
    seen_ = Clock::now();
}

void ProfiledCopies::look() noexcept {
    if (flight_ == nullptr || !flight_->over()) return;
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!seen_.has_value()) seen_ = Clock::now();
}

bool ProfiledCopies::settle() {
    if (flight_ == nullptr) return true;
    std::shared_ptr<c10::Event> anchor, computed, started, ended;
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (settled_) return true;
        anchor = anchor_;
        computed = computed_;
        started = started_;
        ended = ended_;
    }
    if (!flight_->poll()) return false;
    look();
    std::optional<double> computed_at;
    std::optional<DeviceTimes> at;
    if (anchor != nullptr && flight_->landed()) {
        try {
            const RelaxedCapture relaxed(device_.type());
            const c10::DeviceGuard guard(device_);
            if (computed != nullptr) computed_at = seconds_between(*anchor, *computed);
            if (started != nullptr && ended != nullptr) {
                // Differences of neighbours, since drivers count the milliseconds from far away in single precision.
                const double start = seconds_between(*anchor, *started);
                const double queued = computed == nullptr ? 0.0 : seconds_between(*computed, *started);
                at = DeviceTimes{start - queued, start, start + seconds_between(*started, *ended)};
            }
        } catch (const std::exception&) {
            // A device whose events tell no time, or that is lost: there is what the host saw.
        }
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    computed_at_ = computed_at;
    at_ = at;
    settled_ = true;
    anchor_.reset();
    computed_.reset();
    started_.reset();
    ended_.reset();
    return true;
}

ProfiledCopies::Times ProfiledCopies::times() {
    const std::lock_guard<std::mutex> lock(mutex_);
    const bool known = flight_ == nullptr || settled_;
    return {computed_at_, at_, submitted_, begun_.value_or(submitted_), known ? seen_ : std::nullopt};
}

ProfiledCall::ProfiledCall(Profile& profile) : profile_(profile), thread_(this_thread()) {}

void ProfiledCall::add(const Layout& layout, bool on_host) {
    ++leaves_[static_cast<std::size_t>(layout.route)];
    if (!on_host) bytes_ += layout.bytes;
}

void ProfiledCall::move(const Layout& layout, std::size_t route) {
    --leaves_[static_cast<std::size_t>(layout.route)];
    ++leaves_[route];
}

bool ProfiledCall::begin_copies(CopyLane& lane) {
    next_ = {lane.device(), {}, profile_.anchor(lane), nullptr};
    next_.submitted = Clock::now();
    return next_.anchor != nullptr;
}

std::shared_ptr<ProfiledCopies> ProfiledCall::add_copies() {
    const auto& [device, submitted, anchor, computed] = next_;
    return copies_.emplace_back(std::make_shared<ProfiledCopies>(*device, submitted, anchor, computed));
}

void ProfiledCall::add_copies_on_host(c10::Device device, Clock::time_point begin) {
    copies_.emplace_back(std::make_shared<ProfiledCopies>(device, begin, nullptr, nullptr))->end_on_host();
}

void ProfiledCall::submitted() {
    next_ = {};  // the events are the copies' to give back
    returned_ = Clock::now();
}

void ProfiledCall::waited_since(Clock::time_point begin) {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        waits_.push_back({this_thread(), begin, Clock::now()});
    }
    for (const auto& it : copies_) it->look();
}

bool ProfiledCall::settle() {
    bool settled = true;
    for (const auto& it : copies_) settled = it->settle() && settled;
    return settled;
}

ProfiledCall::Report ProfiledCall::report() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return {thread_, begin_, returned_, leaves_, bytes_, waits_, copies_};
}

ProfiledWait::~ProfiledWait() {
    if (call_ == nullptr) return;
    if (device_.has_value()) call_->add_copies_on_host(*device_, begin_);
    call_->waited_since(begin_);
}

std::shared_ptr<ProfiledCall> Profile::begin_call() {
    settle_oldest();  // what has ended gives its events back, for this call to use
    return std::make_shared<ProfiledCall>(*this);
}

void Profile::add(std::shared_ptr<ProfiledCall> call) {
    call->submitted();
    const std::lock_guard<std::mutex> lock(mutex_);
    calls_.push_back(std::move(call));
}

std::shared_ptr<c10::Event> Profile::anchor(CopyLane& lane) {
    const auto known = [this, &lane]() -> const Anchor* {
        const auto of_device = [&lane](const Anchor& it) { return it.device == lane.device(); };
        const auto found = std::find_if(anchors_.begin(), anchors_.end(), of_device);
        return found == anchors_.end() ? nullptr : &*found;
    };
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (const Anchor* there = known()) return there->event;
    }
    Anchor made{lane.device(), nullptr, Clock::now(), std::nullopt};
    try {
        made.event = lane.event(/*timing=*/true);
        made.event->record(lane.stream());
        const auto passed = [&made] { return made.event->query(); };
        if (wait_until(Clock::now() + patience_with_anchor, passed)) made.seen = Clock::now();
    } catch (const std::exception&) {
        made.event = nullptr;
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    if (const Anchor* there = known()) return there->event;  // another thread was here meanwhile
    return anchors_.emplace_back(std::move(made)).event;
}

std::vector<Profile::Anchor> Profile::anchors() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return anchors_;
}

void Profile::settle_oldest() {
    for (std::size_t index = 0;; ++index) {
        std::shared_ptr<ProfiledCall> call;
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            settled_ = index = std::max(settled_, index);
            if (index == calls_.size()) return;
            call = calls_[index];
        }
        if (!call->settle()) return;
    }
}

std::vector<std::shared_ptr<ProfiledCall>> Profile::calls() {
    settle_oldest();
    std::vector<std::shared_ptr<ProfiledCall>> calls;
    std::size_t settled = 0;
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        calls = calls_;
        settled = settled_;
    }
    for (; settled < calls.size(); ++settled) calls[settled]->settle();
    return calls;
}

std::shared_ptr<Profile> Profiling::start() {
    auto made = std::make_shared<Profile>();
    const std::lock_guard<std::mutex> lock(mutex_);
    if (active()) return nullptr;
    if (profile_ != nullptr) new std::shared_ptr<Profile>(std::move(profile_));  // it belongs to the parent
    process_.store(getpid(), std::memory_order_relaxed);
    return profile_ = std::move(made);
}

void Profiling::stop() {
    if (!active()) return;
    const std::lock_guard<std::mutex> lock(mutex_);
    process_.store(0, std::memory_order_relaxed);
    profile_ = nullptr;
}

std::shared_ptr<Profile> Profiling::locked() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return profile_;
}

}  // namespace tnb
