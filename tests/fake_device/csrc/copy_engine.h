// Copies as a driver makes them: enqueued on a stream, carried out by the device's copy engine.
//
//   submit_to_host(stream, dst, device_address, bytes, non_blocking);
//
// A device has one engine for each direction between device and host: copies of one direction queue up for it, whatever
// their streams. The destination of a copy to the host is poisoned when the copy is submitted, so that a read before
// its end shows; where a copy to the device that was submitted earlier has yet to read those bytes, the poison follows
// in stream order instead. Only page-locked memory is copied asynchronously: a copy to other memory is waited for, a
// copy from other memory reads it at submit. A captured copy poisons nothing: it may be launched at any time.
#pragma once

#include <cstddef>
#include <functional>

#include "stream.h"

namespace fake {

constexpr unsigned char pending_host_poison = 0xA5;

// Bytes per second (0: no limit) and seconds per copy, for copies between device and host.
void set_copy_cost(double bandwidth, double latency);

// Poisons what a copy, or a kernel, that is submitted to the stream now is going to write.
void poison_destination(Stream& stream, void* to, size_t bytes);
void submit_to_host(Stream& stream, void* to, const void* from, size_t bytes, bool non_blocking);
void submit_to_device(Stream& stream, void* to, const void* from, size_t bytes, bool non_blocking);
// Runs the move on the stream, behind what the other device's current stream holds now, and holds that one until it
// ends.
void submit_on_device(Stream& stream, Stream& other, size_t bytes, std::function<void()> move);

}  // namespace fake
