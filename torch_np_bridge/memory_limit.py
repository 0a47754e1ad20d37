"""How much memory may be page-locked: what the user says, or a share of what the process may use."""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Mapping
from pathlib import Path

_UNITS = {"": 1, "B": 1}
_UNITS |= {f"{prefix}iB": 1 << (10 * power) for power, prefix in enumerate("KMGT", start=1)}
_UNITS |= {f"{prefix}B": 1000**power for power, prefix in enumerate("KMGT", start=1)}

# Page-locked memory is lost to everything else on the machine. A quarter of what the process may use leaves room for
# the arrays that a program keeps; beyond 4 GiB a pool gains nothing, since that is 80 ms of a PCIe 5 bus.
SHARE = 4
CEILING = 4 << 30

# What a C++ engine can count to.
MOST = (1 << 63) - 1


def parse_bytes(value: object, source: str) -> int:
    """``4GiB``, ``512MB``, ``1_000_000`` or an integer as bytes; ``ValueError`` naming ``source`` for anything else."""
    size = _size(value)
    if size is None or not 0 <= size <= MOST:
        # Python refuses to write an integer of thousands of digits.
        is_huge = isinstance(value, int) and abs(value) >> 1000 != 0
        got = "an integer of more than 300 digits" if is_huge else f"{value!r:.60}"
        raise ValueError(f"{source}: expected a number of bytes such as 4GiB, 512MB or 1000000, got {got}")
    return size


def _size(value: object) -> int | None:
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d{1,3}(?:_?\d{1,3}){0,7})(\.\d{1,9})?\s*([A-Za-z]*)\s*", value, re.ASCII)
        if match is None or match[3] not in _UNITS:
            return None
        from decimal import Decimal  # only here: few say a limit, and all import this

        return int(Decimal(match[1].replace("_", "") + (match[2] or "")) * _UNITS[match[3]])
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        return None
    try:
        return operator.index(value)
    except (TypeError, ValueError):  # an array has the method, and an index only where it has one element
        return None


def default_limit(environ: Mapping[str, str] = os.environ, root: Path = Path("/")) -> int:
    """A quarter of the memory that this process may use, and 4 GiB at most.

    What it may use is the smaller of the machine's memory and the limits of its cgroups (v1 and v2), divided by
    ``LOCAL_WORLD_SIZE``, the number of processes that torchrun started on this machine. What no machine runs, 10,000
    processes or none, is not taken for their number.
    """
    usable = min(filter(None, [_physical_memory(), cgroup_limit(root)]), default=CEILING)
    processes = re.fullmatch(r"0*([1-9]\d{0,3})", environ.get("LOCAL_WORLD_SIZE", "1").strip(), re.ASCII)
    return min(usable // (int(processes[1]) if processes else 1) // SHARE, CEILING)


def _physical_memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not a POSIX system, or one that does not say
        return None


def cgroup_limit(root: Path = Path("/")) -> int | None:
    """The smallest memory limit of the cgroups that this process is in, in bytes; ``None`` where there is none."""
    try:
        memberships = (root / "proc/self/cgroup").read_text(errors="replace").splitlines()
    except OSError:
        return None
    limits: list[int] = []
    for line in memberships:
        if line.count(":") < 2:
            continue
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            limits += _limits_on_the_way(root / "sys/fs/cgroup", path, "memory.max")
        elif "memory" in controllers.split(","):
            limits += _limits_on_the_way(root / "sys/fs/cgroup/memory", path, "memory.limit_in_bytes")
    return min(limits, default=None)


def _limits_on_the_way(mount: Path, path: str, name: str) -> list[int]:
    """The limits of a cgroup and of those above it; inside a container its own is mounted as the root."""
    group = mount / path.lstrip("/")
    limits = []
    for folder in [group, *group.parents]:
        try:
            text = (folder / name).read_text(errors="replace").strip()
        except (OSError, ValueError):  # not there, or a name that no file has
            text = "max"
        # cgroup v1 says "no limit" by a number near 2**63.
        if re.fullmatch(r"\d{1,20}", text, re.ASCII) and int(text) < 1 << 60:
            limits.append(int(text))
        if folder == mount:
            break
    return limits
