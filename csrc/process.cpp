#include "process.h"

#include <pthread.h>

#include <atomic>

namespace tnb {
namespace {
std::atomic<bool> exiting{false};
std::atomic<pthread_t> exiting_thread{};
std::atomic<bool> forked_child{false};
}  // namespace

bool process_is_exiting() noexcept {
    return exiting.load(std::memory_order_acquire);
}

bool process_exits_elsewhere() noexcept {
    return process_is_exiting() && pthread_equal(exiting_thread.load(std::memory_order_relaxed), pthread_self()) == 0;
}

void note_process_exit() noexcept {
    exiting_thread.store(pthread_self(), std::memory_order_relaxed);
    exiting.store(true, std::memory_order_release);
}

bool process_is_forked_child() noexcept {
    return forked_child.load(std::memory_order_acquire);
}

std::runtime_error process_exit_error() {
    return std::runtime_error(
        "expected a process that goes on until the copy has ended, got one that exits; wait for "
        "result() before the end of the program");
}

std::runtime_error forked_child_error(const std::string& device) {
    return std::runtime_error("expected a process that may use " + device +
                              ", got a fork of one that had already loaded torch_np_bridge; start the process with "
                              "the 'spawn' method, or convert tensors on the CPU only");
}

void watch_forks() {
    pthread_atfork(nullptr, nullptr, [] { forked_child.store(true, std::memory_order_release); });
}

}  // namespace tnb
