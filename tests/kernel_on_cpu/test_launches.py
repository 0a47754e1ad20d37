"""A tree becomes launches: how many, how even, and what comes of errors."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from .check import Tree, run_tree
from .layouts import Layout, contiguous, random_layout
from .library import Kernels, Leaf
from .library import kernels as library

LARGE, SMALL = 32764, 4000  # bytes of arguments, with a driver of CUDA 12.1 and with an older one
ROUND = 2048
MOST_WARPS, WARPS_A_BLOCK = 256, 8


def dense_tree(count: int, floats: int = 16) -> Tree:
    return Tree([contiguous("float32", "float32", floats)] * count, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("count", "version", "launches"),
    [(1, 13000, 1), (153, 12000, 1), (154, 12000, 2), (640, 12010, 1), (641, 12010, 2), (1000, 13000, 2),
     (1000, 11080, 7)],
)  # fmt: skip
def test_as_few_launches_as_the_arguments_of_the_driver_allow(
    kernels: Kernels, count: int, version: int, launches: int
) -> None:
    driver = kernels.reset(version=version)
    run_tree(kernels, dense_tree(count), np.random.default_rng(0))
    assert driver.launches == launches
    assert driver.argument_bytes <= (LARGE if version >= 12010 else SMALL)
    assert driver.threads == 32 * WARPS_A_BLOCK


@pytest.mark.parametrize(("toolkit", "launches"), [(12000, 7), (12010, 2)])
def test_no_more_arguments_than_the_toolkit_compiles(kernels: Kernels, toolkit: int, launches: int) -> None:
    """Whatever the driver takes: an older nvcc refuses a kernel with more."""
    older = library(toolkit=toolkit)
    driver = older.reset(version=13000)
    run_tree(older, dense_tree(1000), np.random.default_rng(0))
    assert driver.launches == launches
    assert (driver.argument_bytes <= SMALL) == (toolkit == 12000)


@pytest.mark.parametrize(("blocks", "threads"), [(1, 32), (3, 64), (64, 128), (32, 256), (256, 32)])
def test_a_grid_of_any_shape_that_fits(kernels: Kernels, blocks: int, threads: int) -> None:
    tree = dense_tree(300, floats=3000)
    assert kernels.pack_in_shape(tree.leaves, blocks, threads) == 0
    assert (kernels.driver.blocks, kernels.driver.threads) == (blocks, threads)
    assert not tree.differences()


@pytest.mark.parametrize(("blocks", "threads"), [(0, 32), (1, 0), (1, 48), (1, 512), (33, 256), (257, 32)])
def test_no_other_shape(kernels: Kernels, blocks: int, threads: int) -> None:
    assert kernels.pack_in_shape(dense_tree(1).leaves, blocks, threads) == 1
    assert kernels.driver.launches == 0


@pytest.mark.parametrize("version", [12000, 13000])
@pytest.mark.parametrize("count", [1, 100, 639, 641, 1000, 1300])
def test_a_split_tree_is_whole(kernels: Kernels, version: int, count: int) -> None:
    """Leaves of all kinds and lengths of records, so that launches end at different ones."""
    rng = np.random.default_rng(count)
    kernels.reset(version=version)
    run_tree(kernels, Tree([random_layout(rng) for _ in range(count)], rng), rng)


def test_a_thousand_strided_leaves_are_two_launches(kernels: Kernels) -> None:
    rng = np.random.default_rng(0)
    tree = Tree([Layout("bfloat16", "float32", (8, 10), (33, 2), (10, 1))] * 1000, rng)
    run_tree(kernels, tree, rng)
    assert kernels.driver.launches == 2


def test_nothing_to_copy_is_no_launch(kernels: Kernels) -> None:
    rng = np.random.default_rng(0)
    run_tree(kernels, Tree([contiguous("float32", "float32", 0)] * 1000, rng), rng)
    run_tree(kernels, Tree([], rng), rng)
    assert kernels.driver.launches == 0


@pytest.mark.parametrize(
    "floats",
    [[1 << 20], [1] * 300 + [1 << 18], [1 << 18, *[1] * 300], [16, 5000] * 100, [1000] * 17, [1], [2000, 500_000, 3]],
    ids=["one large", "a large last", "a large first", "in turns", "a few", "one item", "three"],
)
def test_work_is_even_over_leaves_of_any_size(kernels: Kernels, floats: list[int]) -> None:
    """No warp has a round more than another, whatever the leaves; a round is 2 KiB of one leaf at most."""
    rng = np.random.default_rng(0)
    tree = Tree([contiguous("float32", "float32", size) for size in floats], rng)
    report = run_tree(kernels, tree, rng)
    rounds = sum(math.ceil(4 * size / ROUND) for size in floats)
    warps = min(rounds, MOST_WARPS)
    assert kernels.driver.launches == 1
    assert kernels.driver.blocks == math.ceil(warps / WARPS_A_BLOCK)
    shares = np.bincount((report.writers[report.writers != 0] - 1) // 32)
    assert len(shares) == warps
    assert shares.min() > 0
    assert shares.max() <= math.ceil(rounds / warps) * ROUND


def test_another_current_device_is_refused(kernels: Kernels) -> None:
    driver = kernels.reset(device=1)
    tree = dense_tree(1)
    assert kernels.pack_unwatched(tree.leaves, device=0) == 101
    assert driver.launches == 0
    assert kernels.pack_unwatched(tree.leaves, device=1) == 0
    assert driver.errors_cleared == 0


@pytest.mark.parametrize("question", ["current_device", "driver_version"])
@pytest.mark.parametrize("code", [35, 209])
def test_an_error_before_the_launch_is_the_answer_and_is_cleared(kernels: Kernels, question: str, code: int) -> None:
    driver = kernels.reset()
    driver.fail(question, code)
    assert kernels.pack_unwatched(dense_tree(1).leaves) == code
    assert (driver.launches, driver.errors_cleared) == (0, 1)


def test_an_error_of_a_launch_ends_the_call(kernels: Kernels) -> None:
    driver = kernels.reset(launches_before_error=1)
    driver.fail("launch", 222)
    assert kernels.pack_unwatched(dense_tree(2000).leaves) == 222
    assert (driver.launches, driver.errors_cleared) == (1, 1)


def unfit(leaf: Leaf) -> list[Leaf]:
    sizes = (1,) * 65
    return [
        replace(leaf, types=(6, 7)),  # float32 to float64
        replace(leaf, types=(12, 12)),  # quantized
        replace(leaf, types=(5, 6), source=leaf.source + 1),
        replace(leaf, types=(5, 6), destination=leaf.destination + 2),
        replace(leaf, sizes=sizes, source_strides=sizes, destination_strides=sizes),
    ]


@pytest.mark.parametrize("number", range(5))
def test_a_leaf_that_does_not_fit_keeps_all_others_from_being_enqueued(kernels: Kernels, number: int) -> None:
    tree = dense_tree(600)
    leaves = tree.leaves
    assert kernels.pack_unwatched([*leaves, unfit(leaves[0])[number]]) == 1
    assert (kernels.driver.launches, kernels.driver.errors_cleared) == (0, 0)
    assert (tree.destination == tree.before).all()
