#include "tree_walk.h"

#include <algorithm>
#include <bit>

namespace tnb {
namespace {

// The children of the containers that were begun, those of the innermost one last. Borrowed: their containers have
// them, and the caller has the first.
class Children {
public:
    std::size_t depth() const { return begun_.size(); }

    void add(PyObject* child) { objects_.push_back(child); }
    // Those that are added from now on belong to the next container.
    void begin(PyObject* container) { begun_.push_back({container, objects_.size(), objects_.size()}); }

    // Whether `container` is known to be in itself. That is asked at some depths only, to cost next to nothing, and
    // found before twice the depth is reached at which the loop closes.
    bool is_inside_itself(PyObject* container) const {
        return std::has_single_bit(depth()) && std::any_of(begun_.begin(), begun_.end(), [=](const Begun& other) {
                   return other.container == container;
               });
    }

    // The next child of the innermost container that has one left; nullptr where none has.
    PyObject* next() {
        while (!begun_.empty()) {
            Begun& innermost = begun_.back();
            if (innermost.next < objects_.size()) return objects_[innermost.next++];
            objects_.resize(innermost.first);
            begun_.pop_back();
        }
        return nullptr;
    }

private:
    struct Begun {
        PyObject* container;
        std::size_t first;
        std::size_t next;
    };
    std::vector<PyObject*> objects_;
    std::vector<Begun> begun_;
};

// What was found so far.
class Found {
public:
    void add_leaf(TreeNode leaf, PyObject* object) {
        (leaf == TreeNode::tensor ? tensors_ : leaf == TreeNode::kept ? held_ : others_).add(object);
        if (!tokens_.empty() && tokens_.back().node == leaf) {
            ++tokens_.back().count;
        } else {
            tokens_.push_back({leaf, 1});
        }
    }

    void add_container(TreeNode node, PyObject* container, Children& children) {
        children.begin(container);
        if (node == TreeNode::dict) {
            tokens_.push_back({node, static_cast<std::size_t>(PyDict_GET_SIZE(container))});
            PyObject *key = nullptr, *value = nullptr;
            for (Py_ssize_t position = 0; PyDict_Next(container, &position, &key, &value) != 0;) {
                held_.add(key);
                children.add(value);
            }
        } else {
            const Py_ssize_t size = Py_SIZE(container);
            tokens_.push_back({node, static_cast<std::size_t>(size)});
            PyObject* const* const items = PySequence_Fast_ITEMS(container);
            for (Py_ssize_t index = 0; index < size; ++index) children.add(items[index]);
        }
    }

    // From here on code may run, a collection of garbage for one, since containers are made: the tree is done with.
    std::optional<WalkedTree> end() && {
        WalkedTree walked{std::move(tensors_).into_list(), std::move(others_).into_list(),
                          std::move(held_).into_tuple(), TreeSkeleton(std::move(tokens_))};
        if (walked.tensors == nullptr || walked.others == nullptr || walked.held == nullptr) return std::nullopt;
        return walked;
    }

private:
    References tensors_, others_, held_;
    std::vector<TreeToken> tokens_;
};

}  // namespace

TreeWalker::TreeWalker(PyObject* tensor_class, const std::vector<PyObject*>& atoms, std::size_t levels)
    : tensor_class_(reinterpret_cast<PyTypeObject*>(tensor_class)), levels_(levels) {
    classes_.add(tensor_class);
    for (PyObject* atom : atoms) {
        classes_.add(atom);
        atoms_.insert(reinterpret_cast<PyTypeObject*>(atom));
    }
}

// Without recursion: the containers that were begun are on a stack of our own.
std::optional<WalkedTree> TreeWalker::walk(PyObject* tree) const {
    Found found;
    Children children;
    PyTypeObject* last_type = nullptr;
    TreeNode node{};
    for (PyObject* object = tree; object != nullptr; object = children.next()) {
        if (Py_TYPE(object) != last_type) {
            last_type = Py_TYPE(object);
            node = judge(last_type);
        }
        if (is_leaf(node)) {
            found.add_leaf(node, object);
        } else if (children.depth() < levels_ && !children.is_inside_itself(object)) {
            found.add_container(node, object, children);
        } else {
            PyErr_SetNone(PyExc_RecursionError);
            return std::nullopt;
        }
    }
    return std::move(found).end();
}

TreeNode TreeWalker::judge(PyTypeObject* type) const {
    if (type == &PyDict_Type) return TreeNode::dict;
    if (type == &PyList_Type) return TreeNode::list;
    if (type == &PyTuple_Type) return TreeNode::tuple;
    if (PyType_IsSubtype(type, tensor_class_) != 0) return TreeNode::tensor;
    return atoms_.contains(type) ? TreeNode::kept : TreeNode::other;
}

}  // namespace tnb
