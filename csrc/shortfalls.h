#pragma once

#include <c10/core/Device.h>

#include <string>

namespace tnb {

// What a device turned out to lack when it was asked for it. Everything works without it, and engine_info() says so. It
// holds until other functions are registered for the device type.

// No kernel runs there.
void note_no_kernels(c10::Device device, const std::string& why);
bool has_kernels(c10::Device device);
// What was allocated as page-locked memory is none.
void note_no_page_locking(c10::DeviceType type);
bool has_page_locking(c10::DeviceType type);

// What an asynchronous copy needs is not there, or it is again.
void note_synchronous(c10::DeviceType type, bool synchronous);

void forget_shortfalls(c10::DeviceType type);

// Each in a sentence; empty where there are none.
std::string lack_of_kernels();
std::string lack_of_page_locking();
std::string lack_of_asynchrony();

}  // namespace tnb
