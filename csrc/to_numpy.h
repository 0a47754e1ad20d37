#pragma once

#include <string>

typedef struct _object PyObject;

namespace tnb {

class Engine;

// C functions that are the public `to_numpy` and `to_numpy_async`, each with the name, signature and help of a Python
// function `slow`. They answer one plain tensor without options by themselves, and call `slow` for everything else. New
// references, or nullptr with a Python error set; what they are made with lives as long as the process.

struct FrontOf {
    Engine& engine;
    PyObject* self;      // the Python object that the engine belongs to
    PyObject* transfer;  // makes a Transfer of what start_transfer() gives
    PyObject* slow;
    std::string doc;
};

PyObject* make_to_numpy(const FrontOf& of);
PyObject* make_to_numpy_async(const FrontOf& of);

}  // namespace tnb
