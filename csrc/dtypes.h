#pragma once

#include <c10/core/ScalarType.h>

typedef struct _object PyObject;

namespace tnb {

// The table of torch dtypes and NumPy dtypes. Its rows are written in one place, torch_np_bridge/dtypes.py, and given
// to us when the module is loaded; afterwards it is only read.

void set_numpy_dtype(c10::ScalarType type, PyObject* numpy_dtype);

// The NumPy dtype with the same bits, a borrowed reference; nullptr where there is none.
PyObject* numpy_dtype(c10::ScalarType type) noexcept;

}  // namespace tnb
