// Device memory that the host cannot touch, and the caching allocator over it.
//
// An address that the host sees lies in a range without access; workers reach the bytes at worker_address(). A block
// belongs to the stream it was allocated on, its home. When it is freed, the home stream poisons it in stream order,
// and only the home stream gets it again; streams that record_use() named must pass first. So whatever reads memory
// after its end reads the poison, each time, and never somebody else's tensor by luck. Foreign blocks stand for the
// memory of other allocators: they are poisoned at once and record_use() does not know them. Blocks that are allocated
// on a captured stream belong to its graph: their range is never used again, so that a launch finds it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "stream.h"

namespace fake {

constexpr unsigned char freed_device_poison = 0xDB;

struct Block;

Block* allocate_block(int device, size_t bytes, Stream& home);
Block* allocate_foreign_block(int device, size_t bytes);
void free_block(Block* block) noexcept;
void record_use(Block* block, Stream& stream);
void* address_of(const Block* block);

// Gives the blocks that are free back to the device; waits for its streams first, as a driver's free does.
void empty_cache(int device);

// The bytes behind an address of device memory, for use on a worker.
char* worker_address(const void* address);
// -1 if the address is not of device memory.
int device_of(const void* address) noexcept;

constexpr size_t device_capacity = size_t{32} << 30;

}  // namespace fake
