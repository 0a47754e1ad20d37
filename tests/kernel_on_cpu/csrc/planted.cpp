#include "planted.h"

#include "fake_runtime.h"
#include "launch.h"
#include "shim.h"

namespace kernel_on_cpu {
namespace {

struct Copy {
    const uint4* source;
    uint4* destination;
    std::uint32_t units;
};

template <Planted FAULT>
__global__ void copy(const Copy __grid_constant__ argument) {
    const std::uint32_t unit = threadIdx.x;
    const std::uint32_t last = argument.units - 1;
    const auto* from = reinterpret_cast<const unsigned char*>(argument.source + unit);
    auto* to = reinterpret_cast<unsigned char*>(argument.destination + unit);
    if (FAULT == GAP && unit == last) {
        for (unsigned byte = 0; byte < 15; ++byte) __stcs(to + byte, __ldg(from + byte));
        return;
    }
    if (FAULT == OVERLAP && unit == last) __stcs(to - 1, __ldg(from - 1));
    if (FAULT == READ_OUTSIDE && unit == last) __ldg(argument.source + argument.units);
    if (FAULT == WRITTEN_OUTSIDE && unit == last) __stcs(argument.destination + argument.units, uint4{});
    const auto shifted = [](const void* address, unsigned bytes) {
        return reinterpret_cast<std::uintptr_t>(address) + bytes;
    };
    if (FAULT == MISALIGNED_LOAD && unit == 0) __ldg(reinterpret_cast<const uint4*>(shifted(from, 4)));
    if (FAULT == MISALIGNED_STORE && unit == last) {
        __stcs(reinterpret_cast<uint4*>(shifted(to, -4u)), *argument.source);
        return;
    }
    __stcs(argument.destination + unit, __ldg(argument.source + unit));
}

const void* kernel_with(Planted fault) {
    switch (fault) {
        case NO_FAULT:
            return reinterpret_cast<const void*>(copy<NO_FAULT>);
        case OVERLAP:
            return reinterpret_cast<const void*>(copy<OVERLAP>);
        case GAP:
            return reinterpret_cast<const void*>(copy<GAP>);
        case READ_OUTSIDE:
            return reinterpret_cast<const void*>(copy<READ_OUTSIDE>);
        case WRITTEN_OUTSIDE:
            return reinterpret_cast<const void*>(copy<WRITTEN_OUTSIDE>);
        case MISALIGNED_STORE:
            return reinterpret_cast<const void*>(copy<MISALIGNED_STORE>);
        case MISALIGNED_LOAD:
            return reinterpret_cast<const void*>(copy<MISALIGNED_LOAD>);
    }
    return nullptr;
}

}  // namespace

void run_planted(Planted fault, const void* source, void* destination, std::uint32_t units) {
    const Copy argument{static_cast<const uint4*>(source), static_cast<uint4*>(destination), units};
    run_grid(kernel_with(fault), 1, units, &argument, driver.seed);
}

}  // namespace kernel_on_cpu
