#pragma once

// Looks at each access of a kernel, while one lives on the thread that runs it.
//
//     Watch watch({source, bytes}, {destination, bytes});
//     watch.allow(leaf);
//     { run it }
//     watch.report();  // empty where every byte of the leaves' destinations was written by one thread, and only these;
//     and
//                      // no byte was read but the leaves'

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "pack.h"

namespace kernel_on_cpu {

struct Range {
    unsigned char* begin;
    std::size_t bytes;
};

class Watch {
public:
    Watch(Range source, Range destination);
    ~Watch();
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;

    // The bytes of its items on either side; items of so many bytes.
    void allow(const tnb_pack_leaf& leaf, std::size_t source_item, std::size_t destination_item);
    void allow_source(std::size_t first, std::size_t bytes);
    void allow_destination(std::size_t first, std::size_t bytes);

    // What is wrong, a sentence a line; the first of them.
    std::string report();
    // By which thread of the grid each byte of the destination was written, 0 for nobody, else its number and one.
    const std::vector<std::uint32_t>& writers() const { return writers_; }
    // Accesses of 1, 2, 4, 8 and 16 bytes.
    std::size_t loads[5] = {};
    std::size_t stores[5] = {};

    // Whether the access may be made.
    bool may_read(const void* from, std::size_t bytes);
    bool may_write(const void* to, std::size_t bytes);
    void misaligned(const void* address, std::size_t bytes);

private:
    void say(const std::string& sentence);

    const Range source_, destination_;
    std::vector<unsigned char> readable_, writable_;
    std::vector<std::uint32_t> writers_;
    std::string said_;
    std::size_t faults_ = 0;
};

}  // namespace kernel_on_cpu
