#pragma once

namespace pybind11 {
class module_;
}

namespace tnb {

// Gives the module the classes that walk trees.
void bind_trees(pybind11::module_& module);

}  // namespace tnb
