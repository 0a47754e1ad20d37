#include "watch.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "fake_runtime.h"
#include "launch.h"
#include "shim.h"

namespace kernel_on_cpu {
namespace {

constexpr std::size_t MOST_SENTENCES = 10;

thread_local Watch* watching = nullptr;

// The first byte of each item of a layout, one after the other.
template <typename Use>
void each_item(int rank, const std::int64_t* sizes, const std::int64_t* strides, std::int64_t offset, const Use& use) {
    if (rank == 0) {
        use(offset);
        return;
    }
    for (std::int64_t index = 0; index < sizes[0]; ++index) {
        each_item(rank - 1, sizes + 1, strides + 1, offset + index * strides[0], use);
    }
}

// The offset of an address in a range, or the range's end.
std::size_t offset_in(const Range& range, const void* address, std::size_t bytes) {
    const auto first = reinterpret_cast<std::uintptr_t>(range.begin), at = reinterpret_cast<std::uintptr_t>(address);
    return at >= first && at - first + bytes <= range.bytes ? at - first : range.bytes;
}

bool all(const std::vector<unsigned char>& marks, std::size_t first, std::size_t bytes) {
    return std::all_of(marks.begin() + static_cast<std::ptrdiff_t>(first),
                       marks.begin() + static_cast<std::ptrdiff_t>(first + bytes),
                       [](unsigned char mark) { return mark; });
}

}  // namespace

Watch::Watch(Range source, Range destination)
    : source_(source),
      destination_(destination),
      readable_(source.bytes),
      writable_(destination.bytes),
      writers_(destination.bytes) {
    watching = this;
}

Watch::~Watch() {
    watching = nullptr;
}

void Watch::allow_source(std::size_t first, std::size_t bytes) {
    std::fill_n(readable_.begin() + static_cast<std::ptrdiff_t>(first), bytes, 1);
}

void Watch::allow_destination(std::size_t first, std::size_t bytes) {
    std::fill_n(writable_.begin() + static_cast<std::ptrdiff_t>(first), bytes, 1);
}

void Watch::allow(const tnb_pack_leaf& leaf, std::size_t source_item, std::size_t destination_item) {
    const auto source = static_cast<std::int64_t>(offset_in(source_, leaf.source, 0));
    const auto destination = static_cast<std::int64_t>(offset_in(destination_, leaf.destination, 0));
    each_item(leaf.rank, leaf.sizes, leaf.source_strides, 0, [&](std::int64_t item) {
        allow_source(static_cast<std::size_t>(source) + static_cast<std::size_t>(item) * source_item, source_item);
    });
    each_item(leaf.rank, leaf.sizes, leaf.destination_strides, 0, [&](std::int64_t item) {
        const auto first = static_cast<std::size_t>(destination) + static_cast<std::size_t>(item) * destination_item;
        allow_destination(first, destination_item);
    });
}

bool Watch::may_read(const void* from, std::size_t bytes) {
    ++loads[std::countr_zero(bytes)];
    const std::size_t offset = offset_in(source_, from, bytes);
    if (offset == source_.bytes || !all(readable_, offset, bytes)) {
        say("read outside: " + std::to_string(bytes) + " bytes of the source from " + std::to_string(offset));
        return false;
    }
    return true;
}

bool Watch::may_write(const void* to, std::size_t bytes) {
    ++stores[std::countr_zero(bytes)];
    const std::size_t offset = offset_in(destination_, to, bytes);
    if (offset == destination_.bytes || !all(writable_, offset, bytes)) {
        say("written outside: " + std::to_string(bytes) + " bytes of the destination from " + std::to_string(offset));
        return false;
    }
    for (std::size_t byte = offset; byte < offset + bytes; ++byte) {
        const std::uint32_t before = std::exchange(writers_[byte], thread_of_grid() + 1);
        if (before != 0)
            say("written twice: byte " + std::to_string(byte) + ", before by " + std::to_string(before - 1));
    }
    return true;
}

void Watch::misaligned(const void* address, std::size_t bytes) {
    const auto number = reinterpret_cast<std::uintptr_t>(address);
    say("misaligned: " + std::to_string(bytes) + " bytes, " + std::to_string(number % bytes) + " past a multiple");
}

std::string Watch::report() {
    for (std::size_t byte = 0; byte < writers_.size(); ++byte) {
        if (writable_[byte] && writers_[byte] == 0) say("never written: byte " + std::to_string(byte));
    }
    return faults_ == 0 ? "" : std::to_string(faults_) + " faults\n" + said_;
}

void Watch::say(const std::string& sentence) {
    if (++faults_ <= MOST_SENTENCES) said_ += sentence + ", by thread " + std::to_string(thread_of_grid()) + "\n";
}

namespace {

// A device stops at such an access.
void refuse_misaligned(const void* address, std::size_t bytes) {
    if (reinterpret_cast<std::uintptr_t>(address) % bytes == 0) return;
    if (watching == nullptr) std::abort();
    watching->misaligned(address, bytes);
}

}  // namespace

void read_memory(const void* from, void* value, std::size_t bytes) {
    refuse_misaligned(from, bytes);
    if (watching == nullptr || watching->may_read(from, bytes)) {
        std::memcpy(value, reachable(from), bytes);
    } else {
        std::memset(value, 0, bytes);
    }
}

void write_memory(void* to, const void* value, std::size_t bytes) {
    refuse_misaligned(to, bytes);
    if (watching == nullptr || watching->may_write(to, bytes))
        std::memcpy(const_cast<void*>(reachable(to)), value, bytes);
}

}  // namespace kernel_on_cpu
