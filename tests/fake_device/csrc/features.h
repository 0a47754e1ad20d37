// What a device type may lack: each can be taken away, so that code meets what other backends are like.
//
// What is asked for while it is missing fails as torch's own defaults do. Events and streams that were taken before
// stay as they are.
#pragma once

namespace fake {

enum class Feature { host_allocator, pool_streams, events, stream_handles };

bool has(Feature feature) noexcept;
void set_feature(Feature feature, bool present);

}  // namespace fake
