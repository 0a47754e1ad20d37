#include "gil.h"

#include <c10/core/StorageImpl.h>

#include <algorithm>
#include <utility>

#include "process.h"

namespace tnb {

void drop(std::vector<c10::Storage>&& storages) noexcept {
    const bool known_to_python = std::any_of(storages.begin(), storages.end(), [](const c10::Storage& storage) {
        return storage && storage.unsafeGetStorageImpl()->pyobj_slot()->load_pyobj() != nullptr;
    });
    if (!known_to_python) return storages.clear();
    if (process_is_exiting()) {
        new std::vector<c10::Storage>(std::move(storages));  // there may be no interpreter any more
        return;
    }
    PyGILState_STATE state{};
    take_gil_or_park([&state] { state = PyGILState_Ensure(); });
    storages.clear();
    PyGILState_Release(state);
}

}  // namespace tnb
