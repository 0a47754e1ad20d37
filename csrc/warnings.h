#pragma once

#include <c10/util/Exception.h>

#include <string>
#include <vector>

namespace tnb {

// While one lives, what torch warns of on this thread is kept here, where it would be printed otherwise: of casts that
// lose something, say.
class KeptWarnings {
public:
    const std::vector<std::string>& texts() const noexcept { return handler_.texts; }

private:
    struct Handler : c10::WarningHandler {
        void process(const c10::Warning& warning) override { texts.push_back(warning.msg()); }

        std::vector<std::string> texts;
    };

    Handler handler_;
    const c10::WarningUtils::WarningHandlerGuard guard_{&handler_};
};

}  // namespace tnb
