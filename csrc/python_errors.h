#pragma once

#include <Python.h>
#include <c10/util/Exception.h>
#include <torch/csrc/Exceptions.h>

#include <exception>
#include <new>
#include <stdexcept>

namespace tnb {

// Calls a function that gives a new reference, or nullptr with a Python error set. What it throws becomes a Python
// error: torch's own the one that torch makes of it (OutOfMemoryError, say), all else what pybind11 would make of it.
template <class Function>
PyObject* translating_errors(Function&& function) noexcept {
    try {
        return function();
    } catch (const std::bad_alloc&) {
        return PyErr_NoMemory();
    } catch (const std::length_error& error) {
        PyErr_SetString(PyExc_ValueError, error.what());
    } catch (const c10::Error&) {
        torch::translate_exception_to_python(std::current_exception());
    } catch (const std::exception& error) {
        PyErr_SetString(PyExc_RuntimeError, error.what());
    } catch (...) {
        PyErr_SetString(PyExc_RuntimeError, "expected an exception of the C++ library, got another one");
    }
    return nullptr;
}

}  // namespace tnb
