// What happened, counted per device. Host memory belongs to no device and is counted at host_index.
//
// Live numbers (bytes that exist now) are kept by reset_counts(); a peak starts again from the live number.
// Within an Uncounted scope the thread's activity is not counted: the CPU fallback waits and copies for its own ends.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace fake {

enum class Count {
    device_requests,
    device_allocations,
    device_bytes_live,
    device_bytes_peak,
    host_allocations,
    host_frees,
    host_bytes_live,
    locked_pages_bytes,
    event_creates,
    event_destroys,
    event_records,
    event_waits,
    event_queries,
    event_synchronizes,
    stream_queries,
    stream_synchronizes,
    device_synchronizes,
    copies_d2h,
    copies_h2d,
    copies_d2d,
    bytes_d2h,
    bytes_h2d,
    bytes_d2d,
    copies_synchronous,
    launches,
    device_sets,
    queue_waits,
    host_memory_waits,
    fallback_operations,
};

constexpr int host_index = 8;

const std::vector<std::string>& count_names();

void count(int device, Count what, int64_t amount = 1) noexcept;
void count_device_bytes(int device, int64_t change) noexcept;
// All devices and the host for device -1, else that device and the host.
std::vector<std::pair<std::string, int64_t>> counts(int device);
void reset_counts();

class Uncounted {
public:
    Uncounted();
    ~Uncounted();
    Uncounted(const Uncounted&) = delete;
    Uncounted& operator=(const Uncounted&) = delete;

private:
    bool before_;
};

}  // namespace fake
