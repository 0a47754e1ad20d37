// The C interface for Python (kernel_on_cpu/library.py says what each function is for).

#include <cstring>

#include "gather.h"
#include "launch.h"
#include "pack.h"
#include "planted.h"
#include "watch.h"

namespace {

using namespace kernel_on_cpu;

struct Report {
    char* text;
    std::size_t text_bytes;
    std::uint64_t loads[5], stores[5];
    std::uint32_t* writers;  // of each byte of the destination
};

void fill(Report& report, Watch& watch) {
    std::strncpy(report.text, watch.report().c_str(), report.text_bytes - 1);
    std::copy(std::begin(watch.loads), std::end(watch.loads), report.loads);
    std::copy(std::begin(watch.stores), std::end(watch.stores), report.stores);
    std::copy(watch.writers().begin(), watch.writers().end(), report.writers);
}

template <typename Index>
void gather_by(const tnb::Gather& gather, const char* source, char* destination, std::size_t unit) {
    Index sizes[tnb::MAX_RANK + 1], sources[tnb::MAX_RANK + 1], destinations[tnb::MAX_RANK + 1];
    for (int dim = 0; dim < gather.rank; ++dim) {
        sizes[dim] = static_cast<Index>(gather.dims[dim].size);
        sources[dim] = static_cast<Index>(gather.dims[dim].source);
        destinations[dim] = static_cast<Index>(gather.dims[dim].destination);
    }
    const auto items = static_cast<Index>(tnb::count(gather));
    for (Index item = 0; item < items; ++item) {
        Index from[] = {item}, to[] = {item};
        if (gather.rank > 0) {
            tnb::locate(from, static_cast<unsigned>(gather.rank), sizes, sources);
            tnb::locate(to, static_cast<unsigned>(gather.rank), sizes, destinations);
        }
        std::memcpy(destination + to[0] * unit, source + from[0] * unit, unit);
    }
}

}  // namespace

extern "C" {

int kernel_on_cpu_pack(const tnb_pack_leaf* leaves, std::size_t count, const std::int32_t* item_sizes, Range source,
                       Range destination, void* stream, Report* report) {
    Watch watch(source, destination);
    for (std::size_t leaf = 0; leaf < count; ++leaf) {
        const auto* items = item_sizes + 2 * leaf;
        watch.allow(leaves[leaf], static_cast<std::size_t>(items[0]), static_cast<std::size_t>(items[1]));
    }
    const int code = tnb_cuda_pack(leaves, count, 0, stream);
    fill(*report, watch);
    return code;
}

void kernel_on_cpu_planted(std::int32_t fault, Range source, Range destination, Report* report) {
    Watch watch(source, destination);
    watch.allow_source(0, source.bytes - 16);
    watch.allow_destination(0, destination.bytes - 16);
    run_planted(static_cast<Planted>(fault), source.begin, destination.begin,
                static_cast<std::uint32_t>(source.bytes / 16 - 1));
    fill(*report, watch);
}

void kernel_on_cpu_gather(const tnb_pack_leaf* leaf, std::int64_t item_size, int wide) {
    tnb::Gather gather =
        tnb::make_gather(leaf->rank, leaf->sizes, leaf->source_strides, leaf->destination_strides, item_size);
    const std::int64_t unit = tnb::widest_unit(gather, reinterpret_cast<std::uintptr_t>(leaf->source),
                                               reinterpret_cast<std::uintptr_t>(leaf->destination));
    tnb::count_in(gather, unit);
    const auto* source = static_cast<const char*>(leaf->source);
    auto* destination = static_cast<char*>(leaf->destination);
    if (wide || !tnb::fits_32_bits(gather)) {
        gather_by<std::uint64_t>(gather, source, destination, static_cast<std::size_t>(unit));
    } else {
        gather_by<std::uint32_t>(gather, source, destination, static_cast<std::size_t>(unit));
    }
}

std::uint64_t kernel_on_cpu_locate(std::uint64_t index, int rank, const std::uint64_t* sizes,
                                   const std::uint64_t* strides) {
    std::uint64_t items[] = {index};
    tnb::locate(items, static_cast<unsigned>(rank), sizes, strides);
    return items[0];
}
}
