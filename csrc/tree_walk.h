#pragma once

#include <optional>
#include <unordered_set>
#include <vector>

#include "references.h"
#include "tree_skeleton.h"

namespace tnb {

struct WalkedTree {
    Reference tensors;  // a list
    Reference others;   // a list of what somebody else has to look at
    Reference held;     // the tuple that belongs to the skeleton
    TreeSkeleton skeleton;
};

// Takes exact lists, tuples and dicts apart. Objects are judged by their class alone, whatever they say of themselves,
// and no Python code runs while a tree is walked: so no container can change meanwhile, and none needs a reference.
class TreeWalker {
public:
    // Objects of `tensor_class` and its subclasses are tensors, those of the classes `atoms` are kept. A tree of more
    // than `levels` containers in each other is refused; so is one that contains itself, before it fills the memory.
    TreeWalker(PyObject* tensor_class, const std::vector<PyObject*>& atoms, std::size_t levels);

    // Nothing with a Python error set: RecursionError without words, or MemoryError.
    std::optional<WalkedTree> walk(PyObject* tree) const;

    TreeNode judge(PyTypeObject* type) const;

private:
    References classes_;  // keep alive what is below
    PyTypeObject* tensor_class_;
    std::unordered_set<PyTypeObject*> atoms_;
    std::size_t levels_;
};

}  // namespace tnb
