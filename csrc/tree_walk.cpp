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
    // Whether the innermost container has had none added.
    bool none_added() const { return objects_.size() == begun_.back().first; }
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

// Gives the kind of an object by its class, which mostly is that of the one before.
class Judge {
public:
    explicit Judge(const TreeWalker& walker) : walker_(walker) {}

    TreeNode operator()(PyObject* object) {
        if (Py_TYPE(object) != last_type_) {
            last_type_ = Py_TYPE(object);
            last_ = walker_.judge(last_type_);
        }
        return last_;
    }

private:
    const TreeWalker& walker_;
    PyTypeObject* last_type_ = nullptr;
    TreeNode last_{};
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

    void add_container(TreeNode node, PyObject* container, Children& children, Judge& judge) {
        children.begin(container);
        const auto size =
            static_cast<std::size_t>(node == TreeNode::dict ? PyDict_GET_SIZE(container) : Py_SIZE(container));
        tokens_.push_back({node, size});
        // Most containers hold nothing but tensors. Those before the first child of another kind need not be put off.
        std::size_t tensors = 0;
        const auto add_child = [&](PyObject* child) {
            if (children.none_added() && judge(child) == TreeNode::tensor) {
                tensors_.add(child);
                ++tensors;
            } else {
                children.add(child);
            }
        };
        if (node == TreeNode::dict) {
            PyObject *key = nullptr, *value = nullptr;
            for (Py_ssize_t position = 0; PyDict_Next(container, &position, &key, &value) != 0;) {
                held_.add(key);
                add_child(value);
            }
        } else {
            PyObject* const* const items = PySequence_Fast_ITEMS(container);
            std::for_each(items, items + size, add_child);
        }
        if (tensors > 0) tokens_.push_back({TreeNode::tensor, tensors});
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
    Judge judge(*this);
    for (PyObject* object = tree; object != nullptr; object = children.next()) {
        const TreeNode node = judge(object);
        if (is_leaf(node)) {
            found.add_leaf(node, object);
        } else if (children.depth() < levels_ && !children.is_inside_itself(object)) {
            found.add_container(node, object, children, judge);
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
