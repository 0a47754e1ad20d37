"""Runs a program where there is the fake accelerator, one of Ray in its actors too.

python tests/with_fake.py PROGRAM [ARGUMENT …]
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path


def register() -> None:
    """Make the device type known to this process."""
    import fake_device  # noqa: F401


def main() -> None:
    """Run it as `python PROGRAM` would."""
    register()
    del sys.argv[0]
    program = Path(sys.argv[0])
    if program.stem.startswith("ray"):
        import ray

        ray.init(
            num_cpus=2,
            object_store_memory=100 << 20,
            include_dashboard=False,
            logging_level="ERROR",
            runtime_env={"worker_process_setup_hook": register},
        )
    sys.path[0] = str(program.parent)
    runpy.run_path(str(program), run_name="__main__")


if __name__ == "__main__":
    main()
