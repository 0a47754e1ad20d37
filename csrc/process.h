#pragma once

namespace tnb {

// Whether the interpreter has begun to shut down. From then on whatever would call a driver is leaked instead: the
// device runtime may be gone before us.
bool process_is_exiting() noexcept;
void note_process_exit() noexcept;

// Whether this process is a fork()ed child of one that had loaded the extension: no accelerator survives that.
bool process_is_forked_child() noexcept;

// Called once, when the module is loaded.
void watch_forks();

}  // namespace tnb
