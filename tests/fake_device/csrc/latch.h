// Latches: a closed one holds what waits for it until it is released. Releasing twice is harmless.
//
//   auto latch = hold_stream(stream);   // nothing enqueued on the stream from now on runs
//   latch->release();
//
// The copy gate holds every copy between device and host, on every stream, while at least one hold_copies() is closed.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>

#include "stream.h"

namespace fake {

class Latch {
public:
    // True for the call that opened it.
    bool release();
    void wait();

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    bool open_ = false;
};

std::shared_ptr<Latch> hold_stream(Stream& stream);

void close_copy_gate();
void open_copy_gate();
void wait_at_copy_gate();

}  // namespace fake
