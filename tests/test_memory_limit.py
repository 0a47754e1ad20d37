"""Contract 8: how many bytes may be page-locked, by what the user says or by what the process may use."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

import torch_np_bridge as tnb
from torch_np_bridge import engine as engines
from torch_np_bridge.config import read_settings
from torch_np_bridge.memory_limit import CEILING, SHARE, cgroup_limit, default_limit, parse_bytes

MIB, GIB = 1 << 20, 1 << 30
UNITS = {"": 1, "B": 1, "KB": 1000, "MB": 1000**2, "KiB": 1024, "MiB": 1024**2}

AMOUNTS: dict[object, int] = {
    0: 0,
    1: 1,
    123_456: 123_456,
    "0": 0,
    "1000000": 1_000_000,
    "1_000_000": 1_000_000,
    "17B": 17,
    "4KiB": 4096,
    "4KB": 4000,
    "512MB": 512_000_000,
    "512MiB": 512 * MIB,
    "4GiB": 4 * GIB,
    "4GB": 4_000_000_000,
    "1TiB": 1 << 40,
    "1TB": 10**12,
    "1.5GiB": 3 * GIB // 2,
    "0.5 KiB": 512,
    "  4 GiB ": 4 * GIB,
}
NONSENSE: list[object] = [
    *("", " ", "GiB", "4 gib", "4gib", "4Gi", "4G", "4 bytes", "-1", "+1", "1e9", "0x10", "4kB", "1,5GiB", "1.GiB"),
    *(".5GiB", "1..5GiB", "nan", "inf", "4GiB\x00", "_", "_1", "1_", "1__0", "9" * 5000, "9" * 400 + ".5"),
    *(None, True, False, -1, 1.5, 4.0, float("nan"), b"4GiB", [4], 10**30, 10**5000, "10000000000000TiB"),
    *(np.arange(2), np.True_, torch.ones(2)),
]


@pytest.mark.parametrize("value", AMOUNTS, ids=repr)
def test_amounts(value: object) -> None:
    assert parse_bytes(value, "here") == AMOUNTS[value]


@pytest.mark.parametrize("value", NONSENSE, ids=range(len(NONSENSE)))
def test_nonsense_raises_and_names_its_source(value: object) -> None:
    with pytest.raises(ValueError, match=r"^here: expected a number of bytes such as 4GiB, 512MB or 1000000, got "):
        parse_bytes(value, "here")


@given(st.integers(0, 2**40), st.sampled_from(sorted(UNITS)), st.sampled_from(["", " ", "\t"]))
def test_whole_numbers_are_exact(number: int, unit: str, space: str) -> None:
    assert parse_bytes(f"{number}{space}{unit}", "here") == number * UNITS[unit]


@given(st.one_of(st.text(max_size=12), st.from_regex(r"[0-9_.]{1,10}[KMGT]?i?B?", fullmatch=True), st.floats()))
@example("1_0.5KiB")
def test_any_text_is_bytes_or_a_sentence(value: object) -> None:
    complaint = ""
    parsed: object = 0
    try:
        parsed = parse_bytes(value, "here")
    except ValueError as error:
        complaint = str(error)
    assert complaint == "" or complaint.startswith("here: expected a number of bytes")
    assert isinstance(parsed, int)
    assert parsed >= 0


@pytest.mark.parametrize("value", ["lots", -1, 10**30, 1.5], ids=repr)
def test_a_bridge_refuses_nonsense(engine: str, value: object) -> None:
    with pytest.raises(ValueError, match=r"^Bridge\(pinned_limit=\): expected a number of bytes"):
        tnb.Bridge(engine=engine, pinned_limit=value)  # type: ignore[arg-type]


def test_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCH_NP_BRIDGE_PINNED_LIMIT", raising=False)
    assert read_settings({"TORCH_NP_BRIDGE_PINNED_LIMIT": "3MiB"}).pinned_limit == 3 * MIB
    assert read_settings({}).pinned_limit is None
    assert engines._process_limit.__wrapped__() == default_limit()
    for nonsense in ("", "lots", "-1"):
        with pytest.raises(ValueError, match=r"^TORCH_NP_BRIDGE_PINNED_LIMIT: expected a number of bytes"):
            read_settings({"TORCH_NP_BRIDGE_PINNED_LIMIT": nonsense})


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """Makes this a machine with so much memory, or one that does not say."""

    def set_memory(size: int | None) -> None:
        def sysconf(name: str) -> int:
            if size is None:
                raise ValueError("unrecognized configuration name")
            return {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": size // 4096}[name]

        monkeypatch.setattr(os, "sysconf", sysconf)

    return set_memory


def system(root: Path, memberships: str, limits: dict[str, object]) -> Path:
    """A tree of files as the kernel shows them."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(memberships)
    for name, limit in limits.items():
        file = root / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{limit}\n")
    return root


V1 = "12:cpu,cpuacct:/job\n5:memory:/job/step\n1:name=systemd:/\n"
UNLIMITED = 0x7FFFFFFFFFFFF000  # how cgroup v1 says that there is no limit
TREES: dict[str, tuple[str, dict[str, object], int | None]] = {
    "v2": ("0::/job/step\n", {"job/step/memory.max": GIB}, GIB),
    "v2 above": ("0::/job/step\n", {"job/step/memory.max": "max", "job/memory.max": 2 * GIB}, 2 * GIB),
    "v2 the smallest": ("0::/a/b\n", {"a/b/memory.max": 3 * GIB, "a/memory.max": GIB, "memory.max": 2 * GIB}, GIB),
    "v2 mounted as the root": ("0::/docker/f00\n", {"memory.max": GIB}, GIB),
    "v2 at the root": ("0::/\n", {"memory.max": GIB}, GIB),
    "v2 without a limit": ("0::/job\n", {"job/memory.max": "max"}, None),
    "v2 of another group": ("0::/job\n", {"other/memory.max": GIB}, None),
    "v2 outside of the mount": ("0::/../other\n", {"memory.max": GIB}, GIB),
    "v1": (V1, {"memory/job/step/memory.limit_in_bytes": GIB}, GIB),
    "v1 above": (V1, {"memory/job/memory.limit_in_bytes": GIB, "job/step/memory.limit_in_bytes": 5}, GIB),
    "v1 mounted as the root": (V1, {"memory/memory.limit_in_bytes": GIB}, GIB),
    "v1 without a limit": (V1, {"memory/job/step/memory.limit_in_bytes": UNLIMITED}, None),
    "v1 with other controllers": ("3:pids,memory:/x\n", {"memory/x/memory.limit_in_bytes": GIB}, GIB),
    "v1 without memory": ("3:pids:/x\n", {"memory/x/memory.limit_in_bytes": GIB}, None),
    "both": (
        f"{V1}0::/user\n",
        {"memory/job/step/memory.limit_in_bytes": 2 * GIB, "user/memory.max": GIB},
        GIB,
    ),
    "a path with a colon": ("0::/a:b\n", {"a:b/memory.max": GIB}, GIB),
    "no cgroup": ("", {}, None),
    "lines that are none": ("\n:\nmemory\n5:memory\n\x00\n0::/job\n", {"job/memory.max": GIB}, GIB),
    "a path that no file has": ("0::/a\x00b\n", {"memory.max": GIB}, GIB),
    "limits that are none": ("0::/a/b\n", {"a/b/memory.max": "9" * 5000, "a/memory.max": "²", "memory.max": -1}, None),
}


@pytest.mark.parametrize("tree", TREES)
def test_the_limit_of_the_cgroup(tmp_path: Path, tree: str) -> None:
    memberships, limits, expected = TREES[tree]
    assert cgroup_limit(system(tmp_path, memberships, limits)) == expected


def test_memberships_that_are_no_text(tmp_path: Path) -> None:
    root = system(tmp_path, "0::/job\n", {"memory.max": GIB})
    (root / "proc/self/cgroup").write_bytes(b"\xff\xfe\n0::/\xff\n")
    assert cgroup_limit(root) == GIB


def test_a_system_without_cgroups(tmp_path: Path) -> None:
    assert cgroup_limit(tmp_path) is None


def test_the_default_is_a_share_of_the_memory(tmp_path: Path, memory: Callable[[int | None], None]) -> None:
    memory(8 * GIB)
    assert default_limit({}, tmp_path) == 8 * GIB // SHARE
    memory(1 << 40)
    assert default_limit({}, tmp_path) == CEILING
    memory(None)
    assert default_limit({}, tmp_path) == CEILING // SHARE


def test_the_default_obeys_the_cgroup(tmp_path: Path, memory: Callable[[int | None], None]) -> None:
    root = system(tmp_path, "0::/\n", {"memory.max": 2 * GIB})
    for size in (8 * GIB, None):
        memory(size)
        assert default_limit({}, root) == 2 * GIB // SHARE
    memory(GIB)
    assert default_limit({}, root) == GIB // SHARE


@pytest.mark.parametrize(
    ("processes", "share"),
    [
        *[("1", 1), ("2", 2), ("8", 8), ("0", 1), ("", 1), ("-2", 1), ("many", 1), ("²", 1), (" 4\n", 4), ("08", 8)],
        *[("9999", 9999), ("10000", 1), ("1" + "0" * 30, 1), ("2.0", 1), pytest.param("9" * 5000, 1, id="huge")],
    ],
)
def test_processes_of_one_machine_share(
    tmp_path: Path, memory: Callable[[int | None], None], processes: str, share: int
) -> None:
    """Each of them has a pool of its own, also where the ceiling would not bind them all."""
    memory(8 * GIB)
    assert default_limit({"LOCAL_WORLD_SIZE": processes}, tmp_path) == 8 * GIB // share // SHARE
    assert read_settings({"LOCAL_WORLD_SIZE": "2", "TORCH_NP_BRIDGE_PINNED_LIMIT": "7MiB"}).pinned_limit == 7 * MIB
