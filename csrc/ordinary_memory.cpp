#include "ordinary_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <new>

namespace tnb {
namespace {

constexpr std::size_t cache_line = 64;
constexpr std::size_t huge_page = std::size_t{2} << 20;
// Below this a huge page is more waste than gain; NumPy takes the same figure.
constexpr std::size_t huge_pages_from = std::size_t{4} << 20;

}  // namespace

OrdinaryBlock OrdinaryBlock::allocate(std::size_t bytes) {
    const bool large = bytes >= huge_pages_from;
    void* memory = nullptr;
    if (posix_memalign(&memory, large ? huge_page : cache_line, bytes) != 0) throw std::bad_alloc();
    // Only advice: without it the pages are small.
    if (large) madvise(memory, bytes, MADV_HUGEPAGE);
    OrdinaryBlock block;
    block.memory_.reset(memory);
    return block;
}

void OrdinaryBlock::Free::operator()(void* memory) const noexcept {
    std::free(memory);
}

void prefault(void* data, std::size_t bytes) noexcept {
#ifdef MADV_POPULATE_WRITE
    static const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
    // Whole pages only: those at the ends are shared with neighbours and are there already, or will be soon.
    const auto begin = (reinterpret_cast<std::uintptr_t>(data) + page - 1) & ~(page - 1);
    const auto end = (reinterpret_cast<std::uintptr_t>(data) + bytes) & ~(page - 1);
    // Kernels before 5.14 refuse; then the copy touches the pages itself.
    if (end > begin) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_POPULATE_WRITE);
#else
    (void)data;
    (void)bytes;
#endif
}

}  // namespace tnb
