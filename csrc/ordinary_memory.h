#pragma once

#include <cstddef>
#include <memory>

namespace tnb {

// Pageable memory of one array, where no page-locked memory is to be had.
class OrdinaryBlock {
public:
    // Throws std::bad_alloc. Large blocks ask for huge pages, as NumPy does for its own.
    static OrdinaryBlock allocate(std::size_t bytes);

    void* data() const noexcept { return memory_.get(); }

private:
    struct Free {
        void operator()(void* memory) const noexcept;
    };

    std::unique_ptr<void, Free> memory_;
};

// Touch fresh pages ahead of a copy to them, where the system can do it in one call.
void prefault(void* data, std::size_t bytes) noexcept;

}  // namespace tnb
