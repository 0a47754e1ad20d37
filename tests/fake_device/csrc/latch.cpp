#include "latch.h"

namespace fake {
namespace {

struct Gate {
    std::mutex mutex;
    std::condition_variable changed;
    int closed = 0;
};

Gate& gate() {
    static auto* leaked = new Gate();
    return *leaked;
}

}  // namespace

bool Latch::release() {
    const std::lock_guard lock(mutex_);
    const bool opened = !open_;
    open_ = true;
    changed_.notify_all();
    return opened;
}

void Latch::wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return open_; });
}

std::shared_ptr<Latch> hold_stream(Stream& stream) {
    auto latch = std::make_shared<Latch>();
    stream.enqueue_own([latch] { latch->wait(); });
    return latch;
}

void close_copy_gate() {
    Gate& g = gate();
    const std::lock_guard lock(g.mutex);
    g.closed += 1;
}

void open_copy_gate() {
    Gate& g = gate();
    const std::lock_guard lock(g.mutex);
    g.closed -= 1;
    g.changed.notify_all();
}

void wait_at_copy_gate() {
    Gate& g = gate();
    std::unique_lock lock(g.mutex);
    g.changed.wait(lock, [&g] { return g.closed == 0; });
}

}  // namespace fake
