// Events with CUDA's meaning: a point in a stream, captured by each call that uses it.
//
// An event belongs to the device that was current when it was created. Recording demands that this device is current
// and that the stream is of it. Recording again moves the event; a wait that was enqueued before keeps the point that
// it captured. An event that was never recorded counts as passed.
#pragma once

#include <memory>
#include <mutex>

#include "stream.h"

namespace fake {

class Event {
public:
    // On the driver's current device.
    static Event* create(bool timing);
    // Leaves the event alone if the call fails, as a driver does.
    static void destroy(Event* event) noexcept;

    int device() const { return device_; }
    void record(Stream& stream);
    void block(Stream& stream);
    bool query();
    void synchronize();
    double milliseconds_until(Event& end);

private:
    Event(int device, bool timing) : device_(device), timing_(timing) {}
    Point point();

    const int device_;
    const bool timing_;
    std::mutex mutex_;
    Point point_;
};

}  // namespace fake
