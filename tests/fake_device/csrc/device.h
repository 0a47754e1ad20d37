// Devices, the current device of a thread, contexts, and the two states that end all use: a fork and the exit.
//
//   use_device(1);        // throws in a forked child; device 1 has a context from now on
//   set_device(1);        // what cudaSetDevice does: current, and a context is made there
//   restore_device(0);    // what torch's guards do at their end: current for torch, but no context is made
//
// Where a restore found no context, torch's current device and the driver's differ until the next set, as they do for
// CUDA: what is asked of the driver itself then happens on the device that was set last.
//
// The number of devices is fixed by the first context.
#pragma once

namespace fake {

constexpr int max_devices = 8;

int device_count() noexcept;
void configure_devices(int count);
void check_device(int device);

// Torch's, and the driver's own.
int current_device() noexcept;
int driver_device() noexcept;
void set_device(int device);
// A set only where the device is not the current one; gives the one that was.
int exchange_device(int device);
void restore_device(int device) noexcept;

void use_device(int device);
bool has_context(int device) noexcept;
int context_count() noexcept;

// True in a child forked after the first context was made: worker threads do not exist there.
bool forked() noexcept;
void check_not_forked();

}  // namespace fake
