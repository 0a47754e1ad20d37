#pragma once

#include <c10/core/ScalarType.h>

#include <array>
#include <cstddef>

namespace tnb {

// The dtype that values of each dtype of torch are to have on the host: their own, unless another one was set.
class Casts {
public:
    constexpr Casts() noexcept {
        for (std::size_t type = 0; type < targets_.size(); ++type) targets_[type] = static_cast<c10::ScalarType>(type);
    }

    void set(c10::ScalarType from, c10::ScalarType to) { targets_.at(static_cast<std::size_t>(from)) = to; }
    c10::ScalarType of(c10::ScalarType type) const { return targets_.at(static_cast<std::size_t>(type)); }

private:
    std::array<c10::ScalarType, static_cast<std::size_t>(c10::ScalarType::NumOptions)> targets_{};
};

}  // namespace tnb
