#include "kernels.h"

#include <c10/core/ScalarType.h>
#include <c10/util/Exception.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "copy_engine.h"
#include "counters.h"
#include "device.h"
#include "failures.h"
#include "host_memory.h"
#include "memory.h"

namespace fake {
namespace {

// Any that makes an address of the one kind useless as one of the other.
constexpr uintptr_t mapping = uintptr_t{1} << 52;

char* host_address(void* seen_by_device) {
    return reinterpret_cast<char*>(reinterpret_cast<uintptr_t>(seen_by_device) - mapping);
}

using CopyItem = void (*)(const char* from, char* to, size_t itemsize);

void as_it_is(const char* from, char* to, size_t itemsize) {
    std::memcpy(to, from, itemsize);
}

template <class Source, class Destination>
void cast(const char* from, char* to, size_t /*itemsize*/) {
    Source value;
    std::memcpy(&value, from, sizeof value);
    const auto result = static_cast<Destination>(value);
    std::memcpy(to, &result, sizeof result);
}

// How the kernel copies an item of one type to one of the other; nullptr where it does not. Of the casts it has two,
// of whose every bit there is but one answer.
CopyItem copy_of(int source_type, int destination_type) {
    const auto source = static_cast<c10::ScalarType>(source_type);
    const auto destination = static_cast<c10::ScalarType>(destination_type);
    if (source == destination) return source == c10::ScalarType::ComplexDouble ? nullptr : as_it_is;
    if (source == c10::ScalarType::BFloat16 && destination == c10::ScalarType::Float) return cast<c10::BFloat16, float>;
    if (source == c10::ScalarType::Int && destination == c10::ScalarType::Byte) return cast<int32_t, uint8_t>;
    return nullptr;
}

// One tensor, as the kernel has it: what describes it need not outlive the launch.
struct Leaf {
    const char* source;
    char* destination;
    size_t itemsize;
    size_t source_itemsize;
    CopyItem copy_item;
    std::vector<int64_t> sizes;
    std::vector<int64_t> source_strides;
    std::vector<int64_t> destination_strides;

    // Of the destination, which has no gaps.
    size_t bytes() const {
        size_t count = itemsize;
        for (const int64_t size : sizes) {
            count *= static_cast<size_t>(size);
        }
        return count;
    }

    void copy() const {
        if (source_strides == destination_strides && copy_item == as_it_is) {
            std::memcpy(destination, source, bytes());
        } else {
            copy(0, source, destination);
        }
    }

    void copy(size_t dim, const char* from, char* to) const {
        if (dim == sizes.size()) {
            copy_item(from, to, itemsize);
            return;
        }
        const int64_t step = static_cast<int64_t>(source_itemsize) * source_strides[dim];
        const int64_t destination_step = static_cast<int64_t>(itemsize) * destination_strides[dim];
        for (int64_t index = 0; index < sizes[dim]; ++index) {
            copy(dim + 1, from + step * index, to + destination_step * index);
        }
    }
};

Leaf taken(const tnb_pack_leaf& leaf, int device) {
    TORCH_CHECK(packs(leaf.source_type, leaf.destination_type), "expected a type that packs() takes, got ",
                static_cast<int>(leaf.source_type));
    TORCH_CHECK(device_of(leaf.source) == device, "expected a source on fake:", device);
    const auto list = [&leaf](const int64_t* numbers) { return std::vector<int64_t>(numbers, numbers + leaf.rank); };
    Leaf result{worker_address(leaf.source),
                host_address(leaf.destination),
                c10::elementSize(static_cast<c10::ScalarType>(leaf.destination_type)),
                c10::elementSize(static_cast<c10::ScalarType>(leaf.source_type)),
                copy_of(leaf.source_type, leaf.destination_type),
                list(leaf.sizes),
                list(leaf.source_strides),
                list(leaf.destination_strides)};
    TORCH_CHECK(is_page_locked(result.destination, result.bytes()),
                "expected page-locked memory, at its address for the device, as the destination of a kernel");
    return result;
}

}  // namespace

void launch(Stream& stream, std::function<void()> kernel) {
    check(Call::launch);
    const bool broken = takes_failure(Call::launch_async);
    count(stream.device(), Count::launches);
    stream.enqueue([broken, kernel = std::move(kernel)] {
        const Execution execution;
        if (broken) {
            end_context("launch_async");
        } else {
            kernel();
        }
    });
}

void* device_address(void* page_locked) {
    check(Call::device_address);
    TORCH_CHECK(is_page_locked(page_locked, 1), "expected page-locked memory");
    return reinterpret_cast<void*>(reinterpret_cast<uintptr_t>(page_locked) + mapping);
}

void* mapped_host_address(const void* seen_by_device) {
    void* host = host_address(const_cast<void*>(seen_by_device));
    return is_page_locked(host, 1) ? host : nullptr;
}

bool packs(int source_type, int destination_type) {
    return copy_of(source_type, destination_type) != nullptr;
}

void pack(const tnb_pack_leaf* leaves, size_t count, Stream& stream) {
    TORCH_CHECK(driver_device() == stream.device() && current_device() == stream.device(),
                "expected fake:", stream.device(),
                ", the stream's device, to be the current one, got fake:", current_device());
    auto packed = std::make_shared<std::vector<Leaf>>();
    for (size_t index = 0; index < count; ++index) {
        packed->push_back(taken(leaves[index], stream.device()));
    }
    for (const Leaf& leaf : *packed) {
        poison_destination(stream, leaf.destination, leaf.bytes());
    }
    launch(stream, [packed] {
        for (const Leaf& leaf : *packed) {
            leaf.copy();
        }
    });
}

}  // namespace fake
