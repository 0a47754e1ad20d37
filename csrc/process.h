#pragma once

#include <stdexcept>
#include <string>

namespace tnb {

// Whether the interpreter has begun to shut down. From then on whatever would call a driver is leaked instead: the
// device runtime may be gone before us.
bool process_is_exiting() noexcept;
void note_process_exit() noexcept;
// Whether that is so, and by another thread than this one.
bool process_exits_elsewhere() noexcept;
// What to say then to who waits for a copy.
std::runtime_error process_exit_error();

// Whether this process is a fork()ed child of one that had loaded the extension: no accelerator survives that, and no
// thread of ours; a lock that one of them held stays locked.
bool process_is_forked_child() noexcept;
// What to say then to who wants something of `device`.
std::runtime_error forked_child_error(const std::string& device);

// Called once, when the module is loaded.
void watch_forks();

}  // namespace tnb
