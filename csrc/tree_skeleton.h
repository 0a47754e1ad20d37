#pragma once

#include <cstddef>
#include <vector>

typedef struct _object PyObject;

namespace tnb {

enum class TreeNode { list, tuple, dict, tensor, kept, other };

constexpr bool is_leaf(TreeNode node) {
    return node == TreeNode::tensor || node == TreeNode::kept || node == TreeNode::other;
}

// A container with so many children, or so many leaves of one kind in a row.
struct TreeToken {
    TreeNode node;
    std::size_t count;
};

// The exact lists, tuples and dicts of a tree, outermost first, each followed by its children: {"a": [x, 1], "b": y} is
// dict 2, list 2, tensor 1, kept 1, tensor 1. It holds no Python object, so that the garbage collector has nothing to
// see here: the keys and the leaves that are kept are in a tuple, in the order of the tree, the keys of a dict
// together.
//
// Each function needs the GIL, may run code of users' keys, and gives a new object, or nullptr with a Python error set.
class TreeSkeleton {
public:
    explicit TreeSkeleton(std::vector<TreeToken> tokens);

    // The tree again, from tuples; `others` takes the places of what is neither a tensor nor kept.
    PyObject* rebuild(PyObject* arrays, PyObject* held, PyObject* others) const;
    // What `out` has in the places of the tensors, and of the others: two lists. Dicts are compared by their keys.
    PyObject* match(PyObject* held, PyObject* out) const;
    // Where the tensor or other with this index stands, as an expression that begins with `root`.
    PyObject* path(PyObject* held, TreeNode leaf, std::size_t index, PyObject* root) const;

private:
    PyObject* path_at(PyObject* held, std::size_t place, PyObject* root) const;
    void refuse(TreeToken token, PyObject* held, std::size_t key, std::size_t place, PyObject* object) const;

    std::vector<TreeToken> tokens_;
    std::size_t tensors_ = 0;
    std::size_t held_ = 0;
    std::size_t others_ = 0;
};

}  // namespace tnb
