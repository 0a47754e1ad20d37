#include "shortfalls.h"

#include <atomic>
#include <map>
#include <mutex>
#include <set>
#include <utility>

namespace tnb {
namespace {

struct Shortfalls {
    std::mutex mutex;  // guards what follows it
    std::map<std::pair<c10::DeviceType, c10::DeviceIndex>, std::string> kernels;
    std::set<c10::DeviceType> page_locking;
    std::set<c10::DeviceType> synchronous;
};

// Asked at every call, which has no lock to take where nothing is lacking.
std::atomic<bool> any{false};

Shortfalls& shortfalls() {
    static auto* instance = new Shortfalls;
    return *instance;
}

std::string for_each(const std::set<c10::DeviceType>& types, const std::string& words) {
    std::string sentences;
    for (const c10::DeviceType type : types) {
        sentences += "; " + c10::DeviceTypeName(type, /*lower_case=*/true) + words;
    }
    return sentences;
}

}  // namespace

void note_no_kernels(c10::Device device, const std::string& why) {
    const std::lock_guard<std::mutex> lock(shortfalls().mutex);
    shortfalls().kernels[{device.type(), device.index()}] = why;
    any.store(true);
}

bool has_kernels(c10::Device device) {
    if (!any.load(std::memory_order_relaxed)) return true;
    const std::lock_guard<std::mutex> lock(shortfalls().mutex);
    return shortfalls().kernels.count({device.type(), device.index()}) == 0;
}

void note_no_page_locking(c10::DeviceType type) {
    const std::lock_guard<std::mutex> lock(shortfalls().mutex);
    shortfalls().page_locking.insert(type);
    any.store(true);
}

bool has_page_locking(c10::DeviceType type) {
    if (!any.load(std::memory_order_relaxed)) return true;
    const std::lock_guard<std::mutex> lock(shortfalls().mutex);
    return shortfalls().page_locking.count(type) == 0;
}

void note_synchronous(c10::DeviceType type, bool synchronous) {
    const std::lock_guard<std::mutex> lock(shortfalls().mutex);
    if (synchronous) {
        shortfalls().synchronous.insert(type);
    } else {
        shortfalls().synchronous.erase(type);
    }
}

void forget_shortfalls(c10::DeviceType type) {
    const std::lock_guard<std::mutex> lock(shortfalls().mutex);
    std::erase_if(shortfalls().kernels, [type](const auto& entry) { return entry.first.first == type; });
    shortfalls().page_locking.erase(type);
}

std::string lack_of_kernels() {
    const std::lock_guard<std::mutex> lock(shortfalls().mutex);
    std::string sentences;
    for (const auto& [where, why] : shortfalls().kernels) {
        sentences += "; not used on " + c10::Device(where.first, where.second).str() + ": " + why;
    }
    return sentences;
}

std::string lack_of_page_locking() {
    const std::lock_guard<std::mutex> lock(shortfalls().mutex);
    return for_each(shortfalls().page_locking,
                    " has no page-locked memory: its driver gives managed memory in its place, as under confidential "
                    "computing, so all arrays are ordinary ones");
}

std::string lack_of_asynchrony() {
    const std::lock_guard<std::mutex> lock(shortfalls().mutex);
    return for_each(shortfalls().synchronous,
                    " is copied synchronously: an asynchronous copy needs streams of a pool, events and page-locked "
                    "memory of the device type");
}

}  // namespace tnb
