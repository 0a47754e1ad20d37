"""setup.py: the switches, the sentence of a fallback, and nothing left of an earlier build."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_cuda_toolkit import make_toolkit

ROOT = Path(__file__).resolve().parent.parent
SWITCHES = ("TORCH_NP_BRIDGE_NATIVE", "TORCH_NP_BRIDGE_CUDA")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The files that a build reads, and an extension that an earlier build left."""
    for name in ("setup.py", "pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "README.md").write_text("")
    unbuilt = shutil.ignore_patterns("__pycache__", "*.so", "_build_info.py")
    for name in ("build_support", "torch_np_bridge"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=unbuilt)
    (tmp_path / "torch_np_bridge" / "_C.of-an-earlier-build.so").write_bytes(b"")
    return tmp_path


def build(tree: Path, *command: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    inherited = {name: value for name, value in os.environ.items() if name not in (*SWITCHES, "CUDA_HOME", "CXX")}
    return subprocess.run(
        [sys.executable, "setup.py", *(command or ("build_ext", "--inplace"))],
        cwd=tree,
        env=inherited | environ,
        capture_output=True,
        text=True,
        check=False,
    )


def recorded(package: Path) -> dict[str, object]:
    values: dict[str, object] = {}
    exec((package / "_build_info.py").read_text(), values)
    return values


@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize("value", ["yes", "", "2"])
def test_an_unknown_value_of_a_switch_is_refused(tree: Path, switch: str, value: str) -> None:
    done = build(tree, **{"TORCH_NP_BRIDGE_NATIVE": "0", switch: value})
    assert done.returncode != 0
    assert f"{switch}: expected auto, 0 or 1, got {value!r}" in done.stderr


def test_a_pure_build_leaves_no_extension_of_an_earlier_build(tree: Path) -> None:
    done = build(tree, TORCH_NP_BRIDGE_NATIVE="0")
    assert done.returncode == 0, done.stderr
    assert not list((tree / "torch_np_bridge").glob("_C*.so"))
    info = recorded(tree / "torch_np_bridge")
    assert info["BUILT_FOR_TORCH"] is None
    assert info["NATIVE_REASON"] == "built without the extension: TORCH_NP_BRIDGE_NATIVE=0"


def test_a_wheel_says_why_it_has_no_extension_and_holds_none_of_the_source_tree(tree: Path) -> None:
    done = build(tree, "build", TORCH_NP_BRIDGE_NATIVE="0")
    assert done.returncode == 0, done.stderr
    [package] = tree.glob("build/python/lib*/torch_np_bridge")
    assert recorded(package)["BUILT_FOR_TORCH"] is None
    assert not list(package.glob("_C*.so"))
    assert not (tree / "torch_np_bridge" / "_build_info.py").exists()


def test_a_module_that_was_deleted_is_in_no_later_build(tree: Path) -> None:
    gone = tree / "torch_np_bridge" / "gone.py"
    gone.write_text("")
    assert build(tree, "build", TORCH_NP_BRIDGE_NATIVE="0").returncode == 0
    gone.unlink()
    assert build(tree, "build", TORCH_NP_BRIDGE_NATIVE="0").returncode == 0
    assert list(tree.glob("build/python/lib*/torch_np_bridge/bridge.py"))
    assert not list(tree.glob("build/python/lib*/torch_np_bridge/gone.py"))


@pytest.mark.skipif(
    sys.platform != "linux", reason=f"expected Linux, got {sys.platform}, which is named before the compiler"
)
@pytest.mark.parametrize("native", ["auto", "1"])
def test_without_a_compiler_auto_falls_back_with_a_sentence_and_1_fails_with_it(tree: Path, native: str) -> None:
    empty = tree / "empty"
    empty.mkdir()
    done = build(tree, PATH=str(empty), TORCH_NP_BRIDGE_NATIVE=native)
    said = done.stdout if native == "auto" else done.stderr
    [line] = [line for line in said.splitlines() if "no C++ compiler: 'c++' is not on the PATH" in line]
    if native == "auto":
        assert done.returncode == 0, done.stderr
        assert line.endswith("to get the native engine run: pip install --no-build-isolation .")
        assert recorded(tree / "torch_np_bridge")["BUILT_FOR_TORCH"] is None
    else:
        assert done.returncode != 0
        assert line.startswith("TORCH_NP_BRIDGE_NATIVE=1: expected to build the extension")


def test_kernels_that_are_asked_for_without_an_extension_are_refused(tree: Path) -> None:
    done = build(tree, TORCH_NP_BRIDGE_NATIVE="0", TORCH_NP_BRIDGE_CUDA="1")
    assert done.returncode != 0
    assert "TORCH_NP_BRIDGE_CUDA=1: expected to build the extension, but: TORCH_NP_BRIDGE_NATIVE=0" in done.stderr


def toolkit_that_refuses(tree: Path) -> str:
    """The `CUDA_HOME` of a toolkit that looks whole and compiles nothing."""
    make_toolkit(tree / "cuda")
    (tree / "cuda" / "refuse").touch()
    return str(tree / "cuda")


@pytest.fixture
def small_tree(tree: Path) -> Path:
    """An extension of one line in the place of the engine: what is tested is what is built, not how it runs."""
    (tree / "csrc" / "cuda").mkdir(parents=True)
    (tree / "csrc" / "cuda" / "fill.cu").write_text("")
    (tree / "csrc" / "one.cpp").write_text(
        "#ifdef TNB_WITH_KERNELS\n#error with kernels\n#endif\n"
        'extern "C" __attribute__((visibility("default"))) int PyInit__C() { return 0; }\n'
    )
    return tree


@pytest.mark.usefixtures("native")
def test_an_nvcc_that_refuses_the_kernels_leaves_the_extension(small_tree: Path) -> None:
    done = build(small_tree, CUDA_HOME=toolkit_that_refuses(small_tree))
    assert done.returncode == 0, done.stderr
    [line] = [line for line in done.stdout.splitlines() if line.startswith("torch_np_bridge: ")]
    assert re.search(r"; kernels: none: .*nvcc refuses fill\.cu, status 2: fill\.cu\(3\): error: no such GNU$", line)
    info = recorded(small_tree / "torch_np_bridge")
    assert info["BUILT_FOR_TORCH"] is not None
    assert "refuses fill.cu" in str(info["KERNELS_REASON"])
    assert list((small_tree / "torch_np_bridge").glob("_C*.so"))
    assert [folder.name for folder in small_tree.glob("build/*-nocuda/objects")]


@pytest.mark.usefixtures("native")
def test_an_nvcc_that_refuses_kernels_that_are_asked_for_ends_the_build(small_tree: Path) -> None:
    home = toolkit_that_refuses(small_tree)
    done = build(small_tree, CUDA_HOME=home, TORCH_NP_BRIDGE_CUDA="1")
    assert done.returncode != 0
    assert "TORCH_NP_BRIDGE_CUDA=1: expected to build the kernels, but: " in done.stderr
    assert "error: no such GNU" in done.stderr


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("compiler", ["", "  "])
def test_a_compiler_that_is_set_to_nothing_is_the_default(small_tree: Path, compiler: str) -> None:
    done = build(small_tree, CXX=compiler, TORCH_NP_BRIDGE_CUDA="0")
    assert done.returncode == 0, done.stderr
    assert recorded(small_tree / "torch_np_bridge")["BUILT_FOR_TORCH"] is not None
