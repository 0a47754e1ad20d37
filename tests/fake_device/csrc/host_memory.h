// Page-locked host memory: what the device may read and write asynchronously.
//
// Allocating, freeing, locking and unlocking wait for all that the devices' streams hold, where that is switched on.
//
// Two kinds, told apart by a fork. Memory from allocate_host() is the driver's own mapping and is shared with a forked
// child (switchable); pages locked in place stay what they were, private to each process. Locking pages that are
// locked already, in whole or in part, fails; unlocking asks for the address that was locked.
#pragma once

#include <cstddef>

namespace fake {

void* allocate_host(size_t bytes);
void free_host(void* address);
void share_host_memory_with_children(bool shared);

void host_memory_waits_for_streams(bool waits);

void lock_pages(void* address, size_t bytes);
void unlock_pages(void* address);

bool is_page_locked(const void* address, size_t bytes);

}  // namespace fake
