// Plans on demand: for each line "FRESH BYTES..." of the input one line with the bytes of each block, a bar, and block
// and offset of each leaf.

#include <iostream>
#include <sstream>
#include <string>

#include "pack_plan.h"

int main() {
    for (std::string line; std::getline(std::cin, line);) {
        std::istringstream words(line);
        bool fresh = false;
        words >> fresh;
        std::vector<std::size_t> leaves;
        for (std::size_t bytes = 0; words >> bytes;) leaves.push_back(bytes);
        const tnb::PackPlan plan = tnb::plan_blocks(leaves, fresh);
        for (const std::size_t bytes : plan.blocks) std::cout << bytes << ' ';
        std::cout << '|';
        for (const auto& place : plan.places) std::cout << ' ' << place.block << ' ' << place.offset;
        std::cout << std::endl;
    }
    return 0;
}
