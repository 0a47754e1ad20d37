// Work of a known duration, for benchmarks and for tests of order.
#include <ATen/core/Tensor.h>
#include <c10/core/DeviceGuard.h>
#include <torch/library.h>

#include <chrono>
#include <thread>

#include "counters.h"
#include "failures.h"
#include "ops.h"

namespace fake {
namespace {

// Occupies the current stream, then adds one to the tensor.
void compute(const at::Tensor& tensor, double seconds) {
    const c10::DeviceGuard guard(tensor.device());
    check(Call::launch);
    const std::string left = take_last_error();
    TORCH_CHECK(left.empty(), "the launch found the error that an earlier call left: ", left);
    Stream& stream = current_stream_of(tensor);
    count(stream.device(), Count::launches);
    stream.enqueue([seconds, alias = cpu_alias(tensor), broken = takes_failure(Call::launch_async)] {
        std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
        run_on_worker([&] {
            if (broken) {
                end_context("launch_async");
            } else {
                alias.add_(1);
            }
        });
    });
    if (!tensor.is_inference()) {
        tensor.unsafeGetTensorImpl()->bump_version();
    }
}

TORCH_LIBRARY_FRAGMENT(fake_device, m) {
    m.def("compute(Tensor(a!) tensor, float seconds) -> ()");
}

TORCH_LIBRARY_IMPL(fake_device, PrivateUse1, m) {
    m.impl("compute", compute);
}

}  // namespace
}  // namespace fake
