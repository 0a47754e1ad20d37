#pragma once

#include <c10/core/Device.h>
#include <c10/core/Event.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>

#include "host_pool.h"

namespace tnb {

class CopyLane;

// Which idle blocks of a pool the host may write to. The last user of a block may have enqueued a copy of it back to
// the device, of which we know nothing: it has ended when an event has that was recorded on his stream after the block
// came back. A device that writes to a block needs none of this, since it comes behind the same stream.
class HostFences {
public:
    // Records an event on the current stream of the lane's device. What came back to the pool before the fence of the
    // returned number is read by nobody any more, as far as that stream goes. Does not wait.
    std::uint64_t settled(HostPool& pool, CopyLane& lane);

private:
    struct Fence {
        std::uint64_t number;
        c10::Device device;
        std::shared_ptr<c10::Event> event;
    };
    // On a stream that stands still more of them would tell no more.
    static constexpr std::size_t most = 16;

    std::mutex mutex_;  // guards what follows; no event is asked under it
    std::deque<Fence> fences_;
    std::uint64_t settled_ = HostPool::never_handed_out;
};

}  // namespace tnb
