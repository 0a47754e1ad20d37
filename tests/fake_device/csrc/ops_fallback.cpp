// Every other operator, computed by the CPU's kernels on a worker, in stream order.
//
// The operator is run twice: at submit on meta tensors, which gives the outputs' shapes without touching data, and on
// the worker on CPU aliases. Where the first fails (the shape depends on the data, or the result is no tensor) the host
// waits and torch's own CPU fallback does the work; its waits and copies are not counted, but it is.
#include <ATen/EmptyTensor.h>
#include <ATen/core/Tensor.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/ops/resize.h>
#include <c10/core/DeviceGuard.h>
#include <torch/library.h>

#include <algorithm>
#include <unordered_map>

#include "counters.h"
#include "device.h"
#include "failures.h"
#include "ops.h"

namespace fake {
namespace {

using Stack = torch::jit::Stack;

// Numbers stay themselves: every device takes them from the host.
at::Tensor meta_of(const at::Tensor& tensor) {
    if (tensor.device().is_cpu() && tensor.dim() == 0) {
        return tensor;
    }
    return at::detail::empty_strided_meta(tensor.sizes(), tensor.strides(), tensor.scalar_type());
}

// Calls `change` on each tensor in the value, in lists too; gives the value with the results.
template <class Change>
c10::IValue map_tensors(const c10::IValue& value, const Change& change) {
    if (value.isTensor()) {
        const at::Tensor& tensor = value.toTensor();
        return tensor.defined() ? c10::IValue(change(tensor)) : value;
    }
    if (value.isTensorList()) {
        const auto list = value.toTensorList();
        c10::List<at::Tensor> changed;
        for (size_t i = 0; i < list.size(); ++i) {
            const at::Tensor tensor = list.get(i);
            changed.push_back(tensor.defined() ? change(tensor) : tensor);
        }
        return changed;
    }
    if (value.isOptionalTensorList()) {
        const auto list = value.toOptionalTensorList();
        c10::List<std::optional<at::Tensor>> changed;
        for (size_t i = 0; i < list.size(); ++i) {
            const std::optional<at::Tensor> tensor = list.get(i);
            changed.push_back(tensor && tensor->defined() ? std::make_optional(change(*tensor)) : tensor);
        }
        return changed;
    }
    return value;
}

struct Call {
    c10::OperatorHandle op;
    Stack* stack;
    std::vector<c10::IValue> arguments;
    std::optional<c10::Device> device;
    std::unordered_map<c10::TensorImpl*, at::Tensor> meta_of_argument;
    std::unordered_map<c10::TensorImpl*, at::Tensor> argument_of_meta;
};

void collect(Call& call) {
    for (const auto& argument : call.arguments) {
        map_tensors(argument, [&](const at::Tensor& tensor) {
            if (!call.device && tensor.device().is_privateuseone()) {
                call.device = tensor.device();
            }
            const at::Tensor meta = meta_of(tensor);
            if (call.meta_of_argument.emplace(tensor.unsafeGetTensorImpl(), meta).second) {
                call.argument_of_meta.emplace(meta.unsafeGetTensorImpl(), tensor);
            }
            return tensor;
        });
        if (argument.isDevice() && argument.toDevice().is_privateuseone() && !call.device) {
            call.device = argument.toDevice();
        }
    }
}

bool all_tensors(const Stack& results) {
    return !results.empty() && std::all_of(results.begin(), results.end(),
                                           [](const auto& value) { return value.isTensor() || value.isTensorList(); });
}

// The results' metadata, or nothing where it takes data to know it.
std::optional<Stack> infer(const Call& call) {
    Stack stack;
    for (const auto& argument : call.arguments) {
        stack.push_back(argument.isDevice() ? c10::IValue(c10::Device(at::kMeta))
                                            : map_tensors(argument, [&](const at::Tensor& tensor) {
                                                  return call.meta_of_argument.at(tensor.unsafeGetTensorImpl());
                                              }));
    }
    try {
        call.op.callBoxed(&stack);
    } catch (const std::exception&) {
        return std::nullopt;
    }
    return all_tensors(stack) ? std::make_optional(std::move(stack)) : std::nullopt;
}

bool is_view(const c10::FunctionSchema& schema) {
    return std::any_of(schema.returns().begin(), schema.returns().end(), [](const auto& result) {
        return result.alias_info() != nullptr && !result.alias_info()->isWrite();
    });
}

// Outputs passed in with another shape take the one that was inferred.
void resize_arguments(const Call& call) {
    for (const auto& [impl, argument] : call.argument_of_meta) {
        const auto sizes = impl->sizes();
        if (argument.device().is_privateuseone() && argument.sizes() != sizes) {
            argument.resize_(sizes);
        }
    }
}

c10::IValue for_worker(const c10::IValue& argument) {
    if (argument.isDevice()) {
        return c10::Device(at::kCPU);
    }
    return map_tensors(argument, [](const at::Tensor& tensor) {
        if (tensor.device().is_privateuseone()) {
            return cpu_alias(tensor);
        }
        at::Tensor now = tensor.clone();
        if (tensor.unsafeGetTensorImpl()->is_wrapped_number()) {
            now.unsafeGetTensorImpl()->set_wrapped_number(true);
        }
        return now;
    });
}

struct Output {
    size_t result;
    std::optional<size_t> element;
    at::Tensor alias;
};

void store(const Stack& results, const std::vector<Output>& outputs) {
    for (const auto& output : outputs) {
        const auto& result = results[output.result];
        output.alias.copy_(output.element ? result.toTensorList().get(*output.element) : result.toTensor());
    }
}

bool try_enqueue(Call& call) {
    auto metas = infer(call);
    if (!metas) {
        return false;
    }
    const c10::DeviceGuard guard(*call.device);
    Stream& stream = current_stream(current_device());
    check(fake::Call::launch);
    const std::string left = take_last_error();
    TORCH_CHECK(left.empty(), "the launch found the error that an earlier call left: ", left);
    const bool broken = takes_failure(fake::Call::launch_async);
    resize_arguments(call);
    Stack worker_stack;
    for (const auto& argument : call.arguments) {
        worker_stack.push_back(for_worker(argument));
    }
    std::vector<Output> outputs;
    Stack results;
    for (size_t i = 0; i < metas->size(); ++i) {
        size_t element = 0;
        const bool list = (*metas)[i].isTensorList();
        results.push_back(map_tensors((*metas)[i], [&](const at::Tensor& meta) {
            const auto argument = call.argument_of_meta.find(meta.unsafeGetTensorImpl());
            const size_t place = element++;
            if (argument != call.argument_of_meta.end()) {
                return argument->second;
            }
            at::Tensor result = empty_strided_on(*call.device, meta.sizes(), meta.strides(), meta.scalar_type());
            outputs.push_back({i, list ? std::make_optional(place) : std::nullopt, cpu_alias(result)});
            return result;
        }));
    }
    count(stream.device(), Count::launches);
    stream.enqueue([op = call.op, worker_stack = std::move(worker_stack), outputs = std::move(outputs), broken] {
        run_on_worker([&] {
            if (broken) {
                end_context("launch_async");
                return;
            }
            // A copy: a graph runs this more than once.
            Stack stack = worker_stack;
            op.callBoxed(&stack);
            store(stack, outputs);
        });
    });
    torch::jit::drop(*call.stack, call.arguments.size());
    for (auto& result : results) {
        call.stack->push_back(std::move(result));
    }
    return true;
}

void fallback(const c10::OperatorHandle& op, Stack* stack) {
    const auto& schema = op.schema();
    TORCH_CHECK_NOT_IMPLEMENTED(!is_view(schema), "the fake device has no view operator ", schema.operator_name());
    const auto arguments = torch::jit::last(*stack, schema.arguments().size());
    Call call{op, stack, arguments.vec(), std::nullopt, {}, {}};
    collect(call);
    if (call.device && try_enqueue(call)) {
        return;
    }
    count(call.device && call.device->has_index() ? call.device->index() : current_device(),
          Count::fallback_operations);
    const Uncounted own_waits;
    at::native::cpu_fallback(op, stack, /*error_on_views=*/true);
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) {
    m.fallback(torch::CppFunction::makeFromBoxedFunction<&fallback>());
}

}  // namespace
}  // namespace fake
