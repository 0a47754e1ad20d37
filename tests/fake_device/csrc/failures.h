// Failures of the driver's calls, injected by name.
//
// Every driver entry begins with check(Call::its_name). An injected failure lets `after` calls pass and then fails one
// call; a sticky one ends the context: from then on every call fails, those that free, query and destroy too, until
// clear_failures(). The `*_async` names do not fail the call but the operation: it is submitted, and when a worker
// runs it the context ends, as with an asynchronous error of a real device.
//
// last_error() is the thread's own record, written by the C interface only: torch clears what its calls leave.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace fake {

enum class Call {
    device_alloc,
    device_free,
    host_alloc,
    host_free,
    lock_pages,
    unlock_pages,
    stream_get,
    stream_query,
    stream_synchronize,
    device_synchronize,
    event_create,
    event_record,
    event_block,
    event_query,
    event_synchronize,
    event_elapsed,
    event_destroy,
    copy_d2h,
    copy_h2d,
    copy_d2d,
    copy_d2h_async,
    copy_h2d_async,
    launch,
    launch_async,
    device_address,
    begin_capture,
    end_capture,
    exchange_capture_mode,
    stream_is_capturing,
};

const std::vector<std::string>& call_names();

void inject_failure(const std::string& call, int64_t after, bool sticky);
void clear_failure(const std::string& call);
void clear_failures();
int64_t failures_delivered(const std::string& call);

// Throws c10::AcceleratorError, as a failed call does.
[[noreturn]] void raise_error(const std::string& message);
// Throws it if the context has ended or a failure is due for this call.
void check(Call call);
// The same question where throwing is impossible.
bool fails(Call call) noexcept;
// Whether the operation of an `*_async` name, submitted now, is to fail when it runs.
bool takes_failure(Call call) noexcept;

void end_context(const std::string& reason) noexcept;
// Throws if the context has ended.
void check_context();

void set_last_error(const std::string& message);
// The thread's last error, or "" for none; valid until the next one is set.
const char* last_error();
// The same; asking clears it.
std::string take_last_error();

}  // namespace fake
