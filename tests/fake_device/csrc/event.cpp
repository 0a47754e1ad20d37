#include "event.h"

#include <c10/util/Exception.h>

#include "capture.h"
#include "counters.h"
#include "device.h"
#include "failures.h"
#include "features.h"

namespace fake {

Event* Event::create(bool timing) {
    TORCH_CHECK(has(Feature::events), "Backend doesn't support events.");
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
    Point point = stream.point();
    const std::lock_guard lock(mutex_);
    point_ = std::move(point);
}

void Event::block(Stream& stream) {
    check_not_forked();
    check(Call::event_block);
    count(stream.device(), Count::event_waits);
    const Point now = point();
    if (now.marker || now.captured) {
        stream.wait_for(now);
    }
}

bool Event::query() {
    check_not_forked();
    check(Call::event_query);
    const Point now = point();
    check_not_captured(Call::event_query, now);
    check_safe(Call::event_query);
    count(device_, Count::event_queries);
    const bool passed = !now.marker || now.marker->passed();
    // What ran before the marker may have ended the context since the check above.
    check_context();
    return passed;
}

void Event::synchronize() {
    check_not_forked();
    check(Call::event_synchronize);
    const Point now = point();
    check_not_captured(Call::event_synchronize, now);
    check_safe(Call::event_synchronize);
    count(device_, Count::event_synchronizes);
    if (now.marker) {
        now.marker->wait_on_host();
    }
    check_context();
}

double Event::milliseconds_until(Event& end) {
    check_not_forked();
    check(Call::event_elapsed);
    TORCH_CHECK(timing_ && end.timing_, "expected two events created with timing enabled");
    const auto first = point().marker;
    const auto last = end.point().marker;
    TORCH_CHECK(first && last && first->passed() && last->passed(), "expected two recorded and completed events");
    return std::chrono::duration<double, std::milli>(last->time() - first->time()).count();
}

Point Event::point() {
    const std::lock_guard lock(mutex_);
    return point_;
}

}  // namespace fake
