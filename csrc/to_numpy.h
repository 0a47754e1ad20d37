#pragma once

#include <string>

typedef struct _object PyObject;

namespace tnb {

class Engine;

// C functions that are the public `to_numpy` and `to_numpy_async`, each with the name, signature and help of a Python
// function `slow`. They answer one plain tensor without options by themselves, and call `slow` for everything else. New
// references, or nullptr with a Python error set; what they are made with lives as long as the process.

// Answers a tensor on the CPU, while the engine is not profiled.
PyObject* make_to_numpy(PyObject* slow, const std::string& doc, Engine& engine);

// Answers a tensor on any device. `self` is the Python object that `engine` belongs to, and `transfer` makes what is
// returned from what make_pending() gives.
PyObject* make_to_numpy_async(PyObject* slow, const std::string& doc, PyObject* self, Engine& engine,
                              PyObject* transfer);

}  // namespace tnb
