// The names of the tree walk for Python; all other names are in bindings.cpp.

#include "tree_bindings.h"

#include <pybind11/pybind11.h>

#include "tree_skeleton.h"
#include "tree_walk.h"

namespace py = pybind11;

namespace tnb {
namespace {

py::object steal(PyObject* object) {
    if (object == nullptr) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(object);
}

TreeWalker make_walker(const py::type& tensor_class, const py::frozenset& atoms, std::size_t levels) {
    std::vector<PyObject*> classes;
    for (const py::handle atom : atoms) classes.push_back(py::cast<py::type>(atom).ptr());
    return {tensor_class.ptr(), classes, levels};
}

py::tuple walk(const TreeWalker& walker, py::handle tree) {
    auto walked = walker.walk(tree.ptr());
    if (!walked.has_value()) throw py::error_already_set();
    return py::make_tuple(steal(walked->tensors.release()), steal(walked->others.release()),
                          steal(walked->held.release()), std::move(walked->skeleton));
}

}  // namespace

void bind_trees(py::module_& module) {
    py::class_<TreeSkeleton>(module, "TreeSkeleton")
        .def(
            "rebuild",
            [](const TreeSkeleton& self, const py::tuple& arrays, const py::tuple& held, const py::tuple& others) {
                return steal(self.rebuild(arrays.ptr(), held.ptr(), others.ptr()));
            },
            py::arg("arrays"), py::arg("held"), py::arg("others"))
        .def(
            "match",
            [](const TreeSkeleton& self, const py::tuple& held, py::handle out) {
                return steal(self.match(held.ptr(), out.ptr()));
            },
            py::arg("held"), py::arg("out"))
        .def(
            "path",
            [](const TreeSkeleton& self, const py::tuple& held, std::size_t tensor, const py::str& root) {
                return steal(self.path(held.ptr(), TreeNode::tensor, tensor, root.ptr()));
            },
            py::arg("held"), py::arg("tensor"), py::arg("root"))
        .def(
            "path_of_other",
            [](const TreeSkeleton& self, const py::tuple& held, std::size_t other, const py::str& root) {
                return steal(self.path(held.ptr(), TreeNode::other, other, root.ptr()));
            },
            py::arg("held"), py::arg("other"), py::arg("root"));
    py::class_<TreeWalker>(module, "TreeWalker")
        .def(py::init(&make_walker), py::arg("tensor_class"), py::arg("atoms"), py::arg("levels"))
        .def("walk", &walk, py::arg("tree"));
}

}  // namespace tnb
