#pragma once

#include <Python.h>

#include <memory>
#include <utility>
#include <vector>

namespace tnb {

// Owned references to Python objects. All of this needs the GIL, the end of a reference too, which may run any code.

struct DropReference {
    void operator()(PyObject* object) const { Py_DECREF(object); }
};
using Reference = std::unique_ptr<PyObject, DropReference>;

inline Reference new_reference(PyObject* borrowed) {
    Py_INCREF(borrowed);
    return Reference(borrowed);
}

class References {
public:
    References() = default;
    References(References&&) noexcept = default;
    References& operator=(References&&) = delete;
    ~References() {
        for (PyObject* object : objects_) Py_DECREF(object);
    }

    void add(PyObject* borrowed) {
        objects_.push_back(borrowed);
        Py_INCREF(borrowed);
    }
    void add(Reference owned) {
        objects_.push_back(owned.get());
        static_cast<void>(owned.release());
    }
    Reference take_last() {
        Reference last(objects_.back());
        objects_.pop_back();
        return last;
    }

    // A list or a tuple of them, which are none any more here; nullptr with a Python error set.
    Reference into_list() && {
        Reference list(PyList_New(static_cast<Py_ssize_t>(objects_.size())));
        if (list == nullptr) return list;
        for (std::size_t index = 0; index < objects_.size(); ++index) {
            PyList_SET_ITEM(list.get(), static_cast<Py_ssize_t>(index), objects_[index]);
        }
        objects_.clear();
        return list;
    }
    Reference into_tuple() && {
        Reference tuple(PyTuple_New(static_cast<Py_ssize_t>(objects_.size())));
        if (tuple == nullptr) return tuple;
        for (std::size_t index = 0; index < objects_.size(); ++index) {
            PyTuple_SET_ITEM(tuple.get(), static_cast<Py_ssize_t>(index), objects_[index]);
        }
        objects_.clear();
        return tuple;
    }

private:
    std::vector<PyObject*> objects_;
};

}  // namespace tnb
