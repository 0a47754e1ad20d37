#include "pack.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "dense_copy.h"
#include "launch_plan.h"
#include "runtime.h"
#include "strided_copy.h"

namespace tnb::cuda {
namespace {

// The arguments stay where the launch put them: without __grid_constant__ each thread would make a copy, to index it.
template <unsigned BYTES>
__global__ void __launch_bounds__(THREADS, BLOCKS_AN_SM) pack(const Arguments<BYTES> __grid_constant__ arguments) {
    const std::uint32_t warp = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
    if (warp >= arguments.warps) return;
    std::uint32_t first = arguments.round[warp];
    std::uint32_t slot = arguments.slot[warp];
    std::uint32_t left = share(arguments.rounds, arguments.warps, warp);
    while (left != 0) {
        const std::uint32_t* const record = arguments.words + slot * SLOT_WORDS;
        const Leaf leaf = read_record(record, arguments.base);
        const std::uint32_t rounds = rounds_of(leaf);
        const std::uint32_t last = rounds - first < left ? rounds : first + left;
        const Share mine{first, last, last == rounds, threadIdx.x % WARP};
        if (leaf.rank == 0) {
            copy_dense(leaf, mine);
        } else {
            copy_strided(leaf, record + LONG_SLOTS * SLOT_WORDS, mine);
        }
        left -= last - first;
        first = 0;
        slot += leaf.slots;
    }
}

int launch(const LargestArguments& arguments, const Launch& planned, unsigned threads, void* stream) {
    const std::size_t bytes = offsetof(LargestArguments, words) + planned.slots * SLOT_BYTES;
    const bool is_small = planned.slots <= Arguments<SMALL_ARGUMENTS>::SLOTS;
    const void* const kernel = is_small ? reinterpret_cast<const void*>(pack<SMALL_ARGUMENTS>)
                                        : reinterpret_cast<const void*>(pack<LARGE_ARGUMENTS>);
    const int code = runtime.launch(kernel, planned.blocks, threads, &arguments, bytes, stream);
    if (code != 0) runtime.clear_error();
    return code;
}

}  // namespace
}  // namespace tnb::cuda

int tnb_cuda_pack(const tnb_pack_leaf* leaves, size_t count, int device, void* stream) {
    return tnb_cuda_pack_in_shape(leaves, count, device, stream, tnb::cuda::MAX_BLOCKS, tnb::cuda::THREADS);
}

int tnb_cuda_stages(size_t bytes) {
    return bytes >= tnb::cuda::STAGED_FROM ? 1 : 0;
}

int tnb_cuda_pack_in_shape(const tnb_pack_leaf* leaves, size_t count, int device, void* stream, unsigned blocks,
                           unsigned threads) {
    using namespace tnb::cuda;
    if (threads == 0 || threads > THREADS || threads % WARP != 0) return CUDA_INVALID_VALUE;
    if (blocks == 0 || blocks > MAX_WARPS / (threads / WARP)) return CUDA_INVALID_VALUE;
    if (!std::all_of(leaves, leaves + count, is_packable)) return CUDA_INVALID_VALUE;
    int current = 0, driver = 0;
    int code = runtime.current_device(&current);
    if (code == 0 && current != device) return CUDA_INVALID_DEVICE;
    if (code == 0) code = runtime.driver_version(&driver);
    if (code != 0) runtime.clear_error();
    const bool large = driver >= LARGE_ARGUMENTS_SINCE;
    const unsigned slots = large ? LargestArguments::SLOTS : Arguments<SMALL_ARGUMENTS>::SLOTS;
    const Limits limits{slots, blocks, threads / WARP};
    LargestArguments arguments;
    while (code == 0 && count != 0) {
        const Launch planned = describe(leaves, count, limits, arguments);
        if (planned.slots != 0) code = launch(arguments, planned, threads, stream);
        leaves += planned.leaves;
        count -= planned.leaves;
    }
    return code;
}
