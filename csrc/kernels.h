#pragma once

#include <string>

namespace tnb {

// The architectures of the CUDA kernels in this extension and the toolkit that compiled them, or why there are none;
// and the devices that they turned out not to run on.
std::string kernels();

// Runs a small kernel on `device` and checks what it wrote. Empty where all is well, else what went wrong.
std::string kernel_selftest(int device);

}  // namespace tnb
