#pragma once

// What the CUDA kernels' speed depends on, in one place. No entry has been measured on a GPU yet: each says what it was
// reckoned from (docs/performance.md); `bench --tune` measures them.

namespace tnb::cuda {

// The bus is saturated by little, and the GPU is the user's: 32 blocks of 8 warps, each with four 16-byte loads a lane,
// have 512 KiB under way, which at 0.7 µs a load is 750 GB/s, so a quarter of them saturate it. Blocks are small to
// find room: at 80 registers a thread one of 256 takes a third of an SM beside the user's, which one of 512 would find
// less often.
inline constexpr unsigned MAX_BLOCKS = 32;
inline constexpr unsigned THREADS = 256;
inline constexpr unsigned BLOCKS_AN_SM = 3;  // that its registers are limited for
inline constexpr unsigned UNITS_IN_FLIGHT = 4;

// A cast writes more than it reads: 8 items a lane are 128 KiB of them under way in all, still several times the bus.
inline constexpr unsigned MAX_CONVERSIONS = 8;

// 1000 leaves go in two launches: the host describes the second while the device copies the first. Half of that would
// do, but for trees of some 500 tiny leaves, which take longer to describe than to copy.
inline constexpr unsigned MAX_LEAVES = 640;

// Across the bus a kernel is as fast as a copy (52.8 beside 55 GB/s), but it holds its blocks for as long as the bus
// takes: 1 MiB are 19 µs of 32 blocks, where packing in the GPU's own memory takes less than one. A copy more costs the
// host some 5 µs, in which the bus brings 275 KB: from twice that on the copies keep up with the bus.
inline constexpr unsigned STAGED_FROM = 512 << 10;

}  // namespace tnb::cuda
