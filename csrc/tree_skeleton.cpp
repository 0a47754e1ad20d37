#include "tree_skeleton.h"

#include <Python.h>

#include <utility>

#include "references.h"

namespace tnb {
namespace {

// How many nodes of the tree a token stands for, and how many objects it has in the tuple.
std::size_t nodes(TreeToken token) {
    return is_leaf(token.node) ? token.count : 1;
}

std::size_t held_by(TreeToken token) {
    return token.node == TreeNode::kept || token.node == TreeNode::dict ? token.count : 0;
}

PyTypeObject* type_of(TreeNode container) {
    return container == TreeNode::list ? &PyList_Type : container == TreeNode::tuple ? &PyTuple_Type : &PyDict_Type;
}

// Whether an object of this type can have the arrays for a container of the tree. For a dict that is one of the three
// kinds that optree takes for each other. False, with a Python error set, where that cannot be known.
bool serves_as(TreeNode container, PyTypeObject* type) {
    if (type == type_of(container)) return true;
    if (container != TreeNode::dict || PyType_IsSubtype(type, &PyDict_Type) == 0) return false;
    if (type == &PyODict_Type) return true;
    const Reference module(PyImport_ImportModule("collections"));
    const Reference kind(module == nullptr ? nullptr : PyObject_GetAttrString(module.get(), "defaultdict"));
    return kind.get() == reinterpret_cast<PyObject*>(type);
}

// The number of children of an object that serves.
std::size_t size_of(PyObject* object) {
    return static_cast<std::size_t>(PyDict_Check(object) != 0 ? PyDict_GET_SIZE(object) : Py_SIZE(object));
}

PyObject* item(PyObject* tuple, std::size_t index) {
    return PyTuple_GET_ITEM(tuple, static_cast<Py_ssize_t>(index));
}

bool has_size(PyObject* tuple, std::size_t size) {
    if (PyTuple_GET_SIZE(tuple) == static_cast<Py_ssize_t>(size)) return true;
    PyErr_Format(PyExc_ValueError, "expected %zu objects for a tree, got %zd", size, PyTuple_GET_SIZE(tuple));
    return false;
}

// Room for so many items saves half of the time that a large dict takes.
PyObject* new_dict(std::size_t size) {
#if PY_VERSION_HEX < 0x030F0000
    constexpr std::size_t room_of_an_empty_one = 5;
    if (size > room_of_an_empty_one) return _PyDict_NewPresized(static_cast<Py_ssize_t>(size));
#endif
    return PyDict_New();
}

// A new container of `token.count` children, the last one first. The keys of a dict begin at `key`.
Reference make_container(TreeToken token, PyObject* held, std::size_t key, PyObject* const* last) {
    const auto size = static_cast<Py_ssize_t>(token.count);
    Reference made(token.node == TreeNode::list    ? PyList_New(size)
                   : token.node == TreeNode::tuple ? PyTuple_New(size)
                                                   : new_dict(token.count));
    if (made == nullptr) return made;
    for (std::size_t index = 0; index < token.count; ++index) {
        PyObject* const child = last[token.count - 1 - index];
        if (token.node == TreeNode::list) {
            PyList_SET_ITEM(made.get(), static_cast<Py_ssize_t>(index), Py_NewRef(child));
        } else if (token.node == TreeNode::tuple) {
            PyTuple_SET_ITEM(made.get(), static_cast<Py_ssize_t>(index), Py_NewRef(child));
        } else if (PyDict_SetItem(made.get(), item(held, key + index), child) != 0) {
            return nullptr;
        }
    }
    return made;
}

// Appends the children of `object`, the first one last; false where it is not what the token says, or with a Python
// error set. The keys of a dict begin at `key`.
bool take_children(TreeToken token, PyObject* held, std::size_t key, PyObject* object, References& children) {
    if (!serves_as(token.node, Py_TYPE(object)) || size_of(object) != token.count) return false;
    for (std::size_t index = token.count; index-- > 0;) {
        PyObject* child = token.node == TreeNode::dict
                              ? PyDict_GetItemWithError(object, item(held, key + index))
                              : PySequence_Fast_GET_ITEM(object, static_cast<Py_ssize_t>(index));
        if (child == nullptr) return false;
        children.add(child);
    }
    return true;
}

}  // namespace

TreeSkeleton::TreeSkeleton(std::vector<TreeToken> tokens) : tokens_(std::move(tokens)) {
    for (const TreeToken& token : tokens_) {
        if (token.node == TreeNode::tensor) tensors_ += token.count;
        if (token.node == TreeNode::other) others_ += token.count;
        held_ += held_by(token);
    }
}

// From the end: the children of a container are there before it, so that nobody, who looks at all objects of the
// process say, ever sees a list or a tuple with holes.
PyObject* TreeSkeleton::rebuild(PyObject* arrays, PyObject* held, PyObject* others) const {
    if (!has_size(arrays, tensors_) || !has_size(held, held_) || !has_size(others, others_)) return nullptr;
    std::size_t tensors_left = tensors_, held_left = held_, others_left = others_;
    // Borrowed: the tuples have the leaves, and `made` has the containers.
    std::vector<PyObject*> values;
    References made;
    const auto push = [&values](PyObject* tuple, std::size_t& left, std::size_t count) {
        for (const std::size_t end = left - count; left > end;) values.push_back(item(tuple, --left));
    };
    for (auto token = tokens_.rbegin(); token != tokens_.rend(); ++token) {
        if (token->node == TreeNode::tensor) {
            push(arrays, tensors_left, token->count);
        } else if (token->node == TreeNode::kept) {
            push(held, held_left, token->count);
        } else if (token->node == TreeNode::other) {
            push(others, others_left, token->count);
        } else {
            if (token->node == TreeNode::dict) held_left -= token->count;
            const std::size_t first = values.size() - token->count;
            Reference container = make_container(*token, held, held_left, values.data() + first);
            if (container == nullptr) return nullptr;
            values.resize(first);
            values.push_back(container.get());
            made.add(std::move(container));
        }
    }
    return new_reference(values.back()).release();
}

PyObject* TreeSkeleton::match(PyObject* held, PyObject* out) const {
    if (!has_size(held, held_)) return nullptr;
    // Owned, since comparing keys may run code that changes `out`.
    References waiting, targets, others;
    waiting.add(out);
    std::size_t place = 0, key = 0;
    for (const TreeToken& token : tokens_) {
        for (std::size_t count = nodes(token); count > 0; --count, ++place) {
            Reference object = waiting.take_last();
            if (token.node == TreeNode::tensor) {
                targets.add(std::move(object));
            } else if (token.node == TreeNode::other) {
                others.add(std::move(object));
            } else if (!is_leaf(token.node) && !take_children(token, held, key, object.get(), waiting)) {
                if (PyErr_Occurred() == nullptr) refuse(token, held, key, place, object.get());
                return nullptr;
            }
        }
        key += held_by(token);
    }
    const Reference first = std::move(targets).into_list(), second = std::move(others).into_list();
    return first == nullptr || second == nullptr ? nullptr : PyTuple_Pack(2, first.get(), second.get());
}

void TreeSkeleton::refuse(TreeToken token, PyObject* held, std::size_t key, std::size_t place, PyObject* object) const {
    const Reference root(PyUnicode_FromString("out"));
    const Reference where(root == nullptr ? nullptr : path_at(held, place, root.get()));
    if (where == nullptr) return;
    const char* const type = type_of(token.node)->tp_name;
    if (!serves_as(token.node, Py_TYPE(object))) {
        PyErr_Format(PyExc_ValueError,
                     "%U: expected the structure of the tree, a %s, got a %s; build it with the same types",
                     where.get(), type, Py_TYPE(object)->tp_name);
    } else if (size_of(object) != token.count) {
        PyErr_Format(PyExc_ValueError, "%U: expected the structure of the tree, a %s of %zu, got one of %zu",
                     where.get(), type, token.count, size_of(object));
    } else {
        const Reference keys(
            PyTuple_GetSlice(held, static_cast<Py_ssize_t>(key), static_cast<Py_ssize_t>(key + token.count)));
        if (keys == nullptr) return;
        PyErr_Format(PyExc_ValueError, "%U: expected the structure of the tree, a dict with the keys %R, got others",
                     where.get(), keys.get());
    }
}

PyObject* TreeSkeleton::path(PyObject* held, TreeNode leaf, std::size_t index, PyObject* root) const {
    if (!has_size(held, held_)) return nullptr;
    std::size_t place = 0;
    for (const TreeToken& token : tokens_) {
        if (token.node == leaf && index < token.count) return path_at(held, place + index, root);
        if (token.node == leaf) index -= token.count;
        place += nodes(token);
    }
    PyErr_SetString(PyExc_IndexError, "expected the index of a leaf of the tree");
    return nullptr;
}

PyObject* TreeSkeleton::path_at(PyObject* held, std::size_t place, PyObject* root) const {
    struct Open {
        TreeToken token;
        std::size_t key;    // where the keys of a dict begin
        std::size_t begun;  // children so far
    };
    std::vector<Open> open;  // the containers that the place is in, and those that have ended before it
    std::size_t key = 0, passed = 0;
    for (auto token = tokens_.begin(); passed <= place; ++token) {
        for (std::size_t count = nodes(*token); count > 0 && passed <= place; --count, ++passed) {
            while (!open.empty() && open.back().begun == open.back().token.count) open.pop_back();
            if (!open.empty()) ++open.back().begun;
            if (!is_leaf(token->node) && passed < place) open.push_back({*token, key, 0});
        }
        key += held_by(*token);
    }
    Reference path = new_reference(root);
    for (const Open& container : open) {
        const std::size_t child = container.begun - 1;
        path.reset(container.token.node == TreeNode::dict
                       ? PyUnicode_FromFormat("%U[%R]", path.get(), item(held, container.key + child))
                       : PyUnicode_FromFormat("%U[%zu]", path.get(), child));
        if (path == nullptr) return nullptr;
    }
    return path.release();
}

}  // namespace tnb
