"""Contract 8: which leaves of a tree share a block, and where in it they lie. The plan, in a program of its own."""

from __future__ import annotations

import random
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cpp_programs import compile_program
from helpers import ROOT
from hypothesis import given
from hypothesis import strategies as st

KIB = 1 << 10
LINE, MOST, LARGEST = 128, 64, 64 * KIB  # as csrc/host_block.h and csrc/pack_plan.h have them


@dataclass(frozen=True)
class Plan:
    blocks: list[int]
    places: list[tuple[int, int]]

    def sharing(self) -> list[list[int]]:
        """The leaves of each block."""
        leaves: list[list[int]] = [[] for _ in self.blocks]
        for leaf, (block, _) in enumerate(self.places):
            leaves[block].append(leaf)
        return leaves


Planner = Callable[..., Plan]


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planner]:
    program = tmp_path_factory.mktemp("pack_plan") / "answer_pack_plan"
    compile_program(program, ROOT / "tests/cpp/answer_pack_plan.cpp", ("csrc/pack_plan.cpp",))
    with running(program) as process:

        def ask(leaves: list[int], fresh: bool = False) -> Plan:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(" ".join(map(str, [int(fresh), *leaves])) + "\n")
            process.stdin.flush()
            blocks, places = ([int(word) for word in part.split()] for part in process.stdout.readline().split("|"))
            return Plan(blocks, list(zip(places[::2], places[1::2], strict=True)))

        yield ask


def running(program: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def taken(size: int) -> int:
    """What a leaf takes of its block."""
    return -(-size // LINE) * LINE


TABLE: dict[str, tuple[list[int], list[int], list[tuple[int, int]]]] = {
    "none": ([], [], []),
    "one": ([5], [128], [(0, 0)]),
    "two of a line": ([1, 128], [256], [(0, 0), (0, 128)]),
    "two of another size": ([128, 129], [128, 256], [(0, 0), (1, 0)]),
    "within a factor of two": ([384, 512, 257], [1280], [(0, 0), (0, 384), (0, 896)]),
    "a factor of two": ([512, 1024, 512], [1024, 1024], [(0, 0), (1, 0), (0, 512)]),
    "the largest that share": ([LARGEST, LARGEST - 1], [2 * LARGEST], [(0, 0), (0, LARGEST)]),
    "too large to share": ([LARGEST + 1] * 2, [LARGEST + LINE] * 2, [(0, 0), (1, 0)]),
    "as many as share": ([8] * 64, [64 * LINE], [(0, LINE * index) for index in range(64)]),
    "one more": ([8] * 65, [64 * LINE, LINE], [*((0, LINE * index) for index in range(64)), (1, 0)]),
    "larger than memory": ([2**62, 3], [2**62, 128], [(0, 0), (1, 0)]),
}


@pytest.mark.parametrize("what", TABLE)
def test_a_plan(plan: Planner, what: str) -> None:
    leaves, blocks, places = TABLE[what]
    assert plan(leaves) == Plan(blocks, places)


def test_fresh_leaves_share_nothing(plan: Planner) -> None:
    assert plan([4, 4, 300, 10**6], fresh=True) == Plan([128, 128, 384, 10**6 + 64], [(index, 0) for index in range(4)])


SIZES = st.one_of(
    st.integers(1, 300),
    st.integers(1, 2 * LARGEST),
    st.integers(0, 20).flatmap(lambda power: st.integers(max(1, 2**power - 1), 2**power + 1)),
)
TREES = st.one_of(st.lists(SIZES, max_size=50), st.lists(st.sampled_from([1, 200, 5000, 10**6]), max_size=300))


@given(leaves=TREES, fresh=st.booleans())
def test_leaves_lie_apart_on_lines_of_their_own_and_fill_their_block(
    plan: Planner, leaves: list[int], fresh: bool
) -> None:
    made = plan(leaves, fresh)
    ends = [0] * len(made.blocks)
    for size, (block, offset) in sorted(zip(leaves, made.places, strict=True), key=lambda leaf: leaf[1]):
        assert offset == ends[block]
        assert offset % LINE == 0
        ends[block] = offset + taken(size)
    assert ends == made.blocks


@given(leaves=TREES)
def test_few_of_like_size_share(plan: Planner, leaves: list[int]) -> None:
    for shared in plan(leaves).sharing():
        sizes = [taken(leaves[leaf]) for leaf in shared]
        assert 1 <= len(shared) <= MOST
        assert len(shared) == 1 or max(sizes) <= LARGEST
        assert max(sizes) < 2 * min(sizes)


@given(leaves=TREES)
def test_no_more_blocks_than_that_takes(plan: Planner, leaves: list[int]) -> None:
    sharing = Counter((taken(size) - 1).bit_length() for size in leaves if size <= LARGEST)
    alone = sum(size > LARGEST for size in leaves)
    assert len(plan(leaves).blocks) == alone + sum(-(-count // MOST) for count in sharing.values())


@given(leaves=TREES, dice=st.randoms(use_true_random=False))
def test_another_order_needs_as_much(plan: Planner, leaves: list[int], dice: random.Random) -> None:
    made = plan(leaves)
    dice.shuffle(leaves)
    other = plan(leaves)
    assert (len(other.blocks), sum(other.blocks)) == (len(made.blocks), sum(made.blocks))


def test_ten_thousand_leaves(plan: Planner) -> None:
    dice = random.Random(5)
    leaves = [dice.randrange(1, 10**5) for _ in range(10_000)]
    made = plan(leaves)
    assert sum(made.blocks) == sum(map(taken, leaves))
    assert max(map(len, made.sharing())) == MOST
