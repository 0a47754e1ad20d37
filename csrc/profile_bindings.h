#pragma once

namespace pybind11 {
class module_;
}

namespace tnb {

// Adds the class of a profile to the module.
void bind_profile(pybind11::module_& module);

}  // namespace tnb
