#include "event.h"

#include <c10/util/Exception.h>

#include "counters.h"
#include "device.h"
#include "failures.h"

namespace fake {

Event* Event::create(bool timing) {
    const int device = driver_device();
    use_device(device);
    check(Call::event_create);
    count(device, Count::event_creates);
    return new Event(device, timing);
}

void Event::destroy(Event* event) noexcept {
    if (event == nullptr || forked() || fails(Call::event_destroy)) {
        return;
    }
    count(event->device_, Count::event_destroys);
    delete event;
}

void Event::record(Stream& stream) {
    check_not_forked();
    check(Call::event_record);
    TORCH_CHECK(stream.device() == device_, "expected a stream of fake:", device_,
                ", the event's device, got one of fake:", stream.device(),
                "; record an event of the stream's own device");
    // Torch's current device too: the driver's alone may be right by luck, after a guard that restored lazily.
    TORCH_CHECK(driver_device() == device_ && current_device() == device_, "expected fake:", device_,
                ", the event's device, to be the current one, got fake:", current_device(),
                "; make it current before recording");
    count(device_, Count::event_records);
    auto marker = stream.point();
    const std::lock_guard lock(mutex_);
    marker_ = std::move(marker);
}

void Event::block(Stream& stream) {
    check_not_forked();
    check(Call::event_block);
    count(stream.device(), Count::event_waits);
    if (auto marker = captured()) {
        stream.wait_for(std::move(marker));
    }
}

bool Event::query() {
    check_not_forked();
    check(Call::event_query);
    count(device_, Count::event_queries);
    const auto marker = captured();
    const bool passed = !marker || marker->passed();
    // What ran before the marker may have ended the context since the check above.
    check_context();
    return passed;
}

void Event::synchronize() {
    check_not_forked();
    check(Call::event_synchronize);
    count(device_, Count::event_synchronizes);
    if (const auto marker = captured()) {
        marker->wait_on_host();
    }
    check_context();
}

double Event::milliseconds_until(Event& end) {
    check_not_forked();
    check(Call::event_elapsed);
    TORCH_CHECK(timing_ && end.timing_, "expected two events created with timing enabled");
    const auto first = captured();
    const auto last = end.captured();
    TORCH_CHECK(first && last && first->passed() && last->passed(), "expected two recorded and completed events");
    return std::chrono::duration<double, std::milli>(last->time() - first->time()).count();
}

std::shared_ptr<Marker> Event::captured() {
    const std::lock_guard lock(mutex_);
    return marker_;
}

}  // namespace fake
