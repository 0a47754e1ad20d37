"""First steps: tensors become NumPy arrays, from the CPU and from an accelerator.

python examples/first_steps.py [--device NAME]
"""

import argparse

import numpy as np
import torch

import torch_np_bridge as tnb

parser = argparse.ArgumentParser(description="Tensors become NumPy arrays.")
accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
parser.add_argument("--device", default=str(accelerator or "cpu"))
device = torch.device(parser.parse_args().device)

# A tensor becomes an array of the same values, shape and dtype.
vector = torch.tensor([1, 2, 3])
array = tnb.to_numpy(vector)
print(repr(array))
assert isinstance(array, np.ndarray)
assert array.tolist() == [1, 2, 3]
assert array.dtype == np.int64

matrix = torch.tensor([[1.5, 2.5], [3.5, 4.5]])
print(repr(tnb.to_numpy(matrix)))
assert tnb.to_numpy(matrix).tolist() == [[1.5, 2.5], [3.5, 4.5]]

# What one would write by hand gives the same.
assert np.array_equal(tnb.to_numpy(matrix), matrix.cpu().numpy())
assert np.array_equal(tnb.to_numpy(matrix), matrix.to("cpu").numpy())

# From the CPU nothing is copied: array and tensor share their memory, both ways.
array[0] = 10
assert vector[0] == 10
vector[1] = 20
assert array[1] == 20

# copy=True gives memory of its own.
assert not np.shares_memory(tnb.to_numpy(vector, copy=True), array)

# A tensor that requires a gradient needs no .detach().
weight = torch.tensor([0.5, -0.5], requires_grad=True)
assert np.array_equal(tnb.to_numpy(weight), weight.detach().numpy())

# bfloat16, which NumPy does not have, keeps its bits: ml_dtypes has it.
half = tnb.to_numpy(torch.tensor([1.0, 2.5], dtype=torch.bfloat16))
assert half.dtype.name == "bfloat16"
assert half.tolist() == [1.0, 2.5]

# The same call from an accelerator, on `device` here; the array is in host memory.
there = matrix.to(device)
assert np.array_equal(tnb.to_numpy(there), there.cpu().numpy())

# Trees come back as trees. Whatever is no tensor passes through.
tree = tnb.to_numpy({"loss": torch.tensor(0.25, device=device), "outputs": [there, weight.to(device)], "step": 7})
assert tree["loss"] == 0.25
assert tree["step"] == 7
assert np.array_equal(tree["outputs"][0], matrix.numpy())

print(f"{device}, {tnb.engine_info().engine} engine: all as expected")
