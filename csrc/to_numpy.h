#pragma once

typedef struct _object PyObject;

namespace tnb {

// The C function that is the public `to_numpy`, with the name, signature and help of the Python function `slow`. It
// answers one plain tensor on the CPU without options by itself and calls `slow` for everything else.
PyObject* make_to_numpy(PyObject* slow, const char* doc);

}  // namespace tnb
