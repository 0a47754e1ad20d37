#include "counters.h"

#include <array>
#include <atomic>

namespace fake {
namespace {

constexpr size_t places = host_index + 1;
constexpr size_t kinds = static_cast<size_t>(Count::fallback_operations) + 1;

std::array<std::array<std::atomic<int64_t>, kinds>, places> numbers{};
thread_local bool uncounted = false;

std::atomic<int64_t>& number(int place, Count what) noexcept {
    return numbers[static_cast<size_t>(place)][static_cast<size_t>(what)];
}

bool is_live(Count what) noexcept {
    return what == Count::device_bytes_live || what == Count::host_bytes_live || what == Count::locked_pages_bytes;
}

bool is_memory(Count what) noexcept {
    return what <= Count::locked_pages_bytes;
}

}  // namespace

const std::vector<std::string>& count_names() {
    static const auto* names = new std::vector<std::string>{
        "device_requests",     "device_allocations",  "device_bytes_live",  "device_bytes_peak",   "host_allocations",
        "host_frees",          "host_bytes_live",     "locked_pages_bytes", "event_creates",       "event_destroys",
        "event_records",       "event_waits",         "event_queries",      "event_synchronizes",  "stream_queries",
        "stream_synchronizes", "device_synchronizes", "copies_d2h",         "copies_h2d",          "copies_d2d",
        "bytes_d2h",           "bytes_h2d",           "bytes_d2d",          "copies_synchronous",  "launches",
        "device_sets",         "queue_waits",         "host_memory_waits",  "fallback_operations",
    };
    return *names;
}

void count(int device, Count what, int64_t amount) noexcept {
    if (!uncounted || is_memory(what)) {
        number(device, what).fetch_add(amount);
    }
}

void count_device_bytes(int device, int64_t change) noexcept {
    const int64_t live = number(device, Count::device_bytes_live).fetch_add(change) + change;
    auto& peak = number(device, Count::device_bytes_peak);
    int64_t seen = peak.load();
    while (live > seen && !peak.compare_exchange_weak(seen, live)) {
    }
}

std::vector<std::pair<std::string, int64_t>> counts(int device) {
    std::vector<std::pair<std::string, int64_t>> result;
    for (size_t kind = 0; kind < kinds; ++kind) {
        int64_t sum = 0;
        for (int place = 0; place < static_cast<int>(places); ++place) {
            if (device < 0 || place == device || place == host_index) {
                sum += number(place, static_cast<Count>(kind)).load();
            }
        }
        result.emplace_back(count_names()[kind], sum);
    }
    return result;
}

void reset_counts() {
    for (int place = 0; place < static_cast<int>(places); ++place) {
        for (size_t kind = 0; kind < kinds; ++kind) {
            const auto what = static_cast<Count>(kind);
            if (what == Count::device_bytes_peak) {
                number(place, what).store(number(place, Count::device_bytes_live).load());
            } else if (!is_live(what)) {
                number(place, what).store(0);
            }
        }
    }
}

Uncounted::Uncounted() : before_(uncounted) {
    uncounted = true;
}

Uncounted::~Uncounted() {
    uncounted = before_;
}

}  // namespace fake
