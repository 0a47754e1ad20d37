#pragma once

#include "engine.h"

typedef struct _object PyObject;
typedef struct _typeobject PyTypeObject;

namespace tnb {

// A submission as Python sees it: an object of the type `Pending`, by hand, since one is made in each call and
// pybind11 takes a good part of a microsecond for it. Its methods are those of the protocol of that name in
// torch_np_bridge/engine.py.

// Called once, with the GIL, before anything else here; nullptr with a Python error set.
PyTypeObject* init_pending();

// Submits the tensors, without the GIL: a new reference, or nullptr with a Python error set; throws what the engine
// does. `self` is the Python object that `engine` belongs to; `out` is the list of the caller's arrays, or nullptr
// where arrays are to be made. They exist from the start, but nobody gets them before the copies have ended.
PyObject* start_transfer(PyObject* self, Engine& engine, at::ArrayRef<at::Tensor> tensors,
                         at::ArrayRef<Destination> destinations, const SubmitOptions& options, PyObject* out);

// Waits, without the GIL, until the copies have ended; false, with a Python error set, where a signal has raised one.
bool wait_for(PyObject* pending);

// The array of a submission of one tensor that has ended: a new reference, or nullptr where its source was changed
// meanwhile. Throws the error of the copies.
PyObject* unchanged_array(PyObject* pending);

}  // namespace tnb
