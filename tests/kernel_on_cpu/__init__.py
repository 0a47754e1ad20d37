"""Runs the source of the CUDA kernels on the CPU and looks at each of their accesses to memory."""
