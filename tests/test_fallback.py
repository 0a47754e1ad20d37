"""Contract 14: which engine runs, and why, is always said; `engine="native"` never falls back."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from helpers import assert_silent, run_script

import torch_np_bridge as tnb
from torch_np_bridge import engine as engines
from torch_np_bridge.config import EngineChoice

BUILD_INFO = "torch_np_bridge._build_info"
MODULE = "torch_np_bridge._C"


def build_info(built_for: str | None, reason: str = "") -> ModuleType:
    """What a build writes down."""
    made = ModuleType(BUILD_INFO)
    vars(made).update(BUILT_FOR_TORCH=built_for, NATIVE_REASON=reason)
    return made


@pytest.fixture
def installation(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Lets a test pretend another installation of the package: what it sets is looked at anew."""
    monkeypatch.delenv("TORCH_NP_BRIDGE_ENGINE", raising=False)
    engines.extension.cache_clear()
    with monkeypatch.context() as pretended:
        yield pretended
    engines.extension.cache_clear()


def assert_falls_back(*words: str) -> None:
    """`auto` takes the Python engine and says why, `native` raises and says why."""
    with tnb.Bridge() as bridge:
        info = bridge.engine_info()
        assert info.engine == "python"
        assert bridge.to_numpy(torch.arange(3)).tolist() == [0, 1, 2]
    with pytest.raises(tnb.EngineUnavailableError) as caught:
        tnb.Bridge(engine="native")
    for word in (*words, "pip install --no-build-isolation"):
        assert word in info.reason
        assert word in str(caught.value)
    assert info.kernels == "none: no extension"


def test_a_copy_that_was_never_built(installation: pytest.MonkeyPatch) -> None:
    installation.setitem(sys.modules, BUILD_INFO, None)
    assert_falls_back("never built")


def test_a_build_without_the_extension(installation: pytest.MonkeyPatch) -> None:
    installation.setitem(sys.modules, BUILD_INFO, build_info(None, "no C++ compiler was found"))
    assert_falls_back("no C++ compiler was found")


@pytest.mark.parametrize("built_for", ["2.0.1", "1.13.1+cu117", "99.1.0a0+git123"])
def test_an_extension_for_another_torch_is_not_even_imported(installation: pytest.MonkeyPatch, built_for: str) -> None:
    installation.setitem(sys.modules, BUILD_INFO, build_info(built_for))
    installation.setitem(sys.modules, MODULE, ModuleType("anything that asks it for something fails"))
    assert_falls_back(f"built for torch {built_for}", f"this is torch {torch.__version__}")
    assert tnb.Bridge().engine_info().built_for == built_for


def test_the_local_version_and_the_patch_do_not_matter(native: EngineChoice, installation: pytest.MonkeyPatch) -> None:
    major, minor = torch.__version__.split(".")[:2]
    installation.setitem(sys.modules, BUILD_INFO, build_info(f"{major}.{minor}.99+elsewhere"))
    assert tnb.Bridge(engine=native).engine_info().built_for == f"{major}.{minor}.99+elsewhere"


def test_an_extension_that_does_not_load(installation: pytest.MonkeyPatch) -> None:
    installation.setitem(sys.modules, BUILD_INFO, build_info(torch.__version__))
    installation.setitem(sys.modules, MODULE, None)
    assert_falls_back("does not load")


def test_the_engine_asked_for_is_the_one_that_runs(engine: EngineChoice) -> None:
    info = tnb.Bridge(engine=engine).engine_info()
    assert info.engine == engine
    assert info.reason == f"asked for by engine={engine!r}"


def test_auto_takes_native(native: EngineChoice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCH_NP_BRIDGE_ENGINE", raising=False)
    info = tnb.Bridge().engine_info()
    assert (info.engine, info.reason) == (native, "the extension loads")
    assert info.built_for is not None
    assert info.built_for.split(".")[:2] == torch.__version__.split(".")[:2]


def test_the_environment_chooses_for_auto_only(engine: EngineChoice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_NP_BRIDGE_ENGINE", engine)
    info = tnb.Bridge().engine_info()
    assert (info.engine, info.reason) == (engine, f"asked for by TORCH_NP_BRIDGE_ENGINE={engine}")
    assert tnb.Bridge(engine="python").engine_info().engine == "python"


def test_the_environment_chooses_for_the_functions(engine: EngineChoice) -> None:
    assert_silent(
        run_script(
            "import torch, torch_np_bridge as tnb; print(tnb.engine_info().engine, tnb.to_numpy(torch.ones(2)))",
            TORCH_NP_BRIDGE_ENGINE=engine,
        ),
        output=f"{engine} [1. 1.]\n",
    )


@pytest.mark.parametrize("value", ["cuda", "Native", "", "1"])
def test_unknown_engines_are_refused(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=rf"^Bridge\(engine=\): expected one of auto, native, python, got '{value}'$"):
        tnb.Bridge(engine=value)
    monkeypatch.setenv("TORCH_NP_BRIDGE_ENGINE", value)
    with pytest.raises(ValueError, match=rf"^TORCH_NP_BRIDGE_ENGINE: expected one of .*, got '{value}'$"):
        tnb.Bridge()


def test_an_unknown_environment_is_refused_at_the_import() -> None:
    finished = run_script("import torch_np_bridge", TORCH_NP_BRIDGE_ENGINE="fast")
    assert finished.returncode == 1
    assert "TORCH_NP_BRIDGE_ENGINE: expected one of auto, native, python, got 'fast'" in finished.stderr


def test_what_engine_info_says(engine: EngineChoice) -> None:
    info = tnb.Bridge(engine=engine).engine_info()
    assert dataclasses.is_dataclass(info)
    with pytest.raises(dataclasses.FrozenInstanceError):
        info.engine = "native"  # type: ignore[misc]
    assert info.versions["torch"] == torch.__version__
    assert info.versions["numpy"] == np.__version__
    assert info.versions["torch_np_bridge"] == tnb.__version__
    assert info.kernels


def test_engine_info_names_the_devices(accelerator: str) -> None:
    count = torch.accelerator.device_count()
    assert tnb.engine_info().devices == tuple(f"{accelerator}:{index}" for index in range(count))


def test_the_package_works_without_the_extension() -> None:
    """As an installation without a compiler: the module is not there at all."""
    assert_silent(
        run_script("""
import sys
sys.modules["torch_np_bridge._build_info"] = sys.modules["torch_np_bridge._C"] = None
import numpy as np, torch, torch_np_bridge as tnb
assert tnb.engine_info().engine == "python"
tensor = torch.tensor([[1.5, 2.5], [3.5, 4.5]], dtype=torch.bfloat16)
assert tnb.to_numpy({"a": tensor})["a"].astype(np.float32).tolist() == tensor.tolist()
assert np.asarray(tnb.to_numpy_async(tensor)).shape == (2, 2)
assert "tree" in tnb.to_numpy.__doc__
""")
    )


def test_a_later_environment_changes_nothing(engine: EngineChoice, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said is what was selected, not what would be selected now."""
    monkeypatch.delenv("TORCH_NP_BRIDGE_PINNED_LIMIT", raising=False)
    monkeypatch.setenv("TORCH_NP_BRIDGE_ENGINE", engine)
    opened = [tnb.Bridge(), tnb.Bridge(pinned_limit="3MiB"), tnb.Bridge(engine=engine)]
    before = [bridge.engine_info() for bridge in opened] + [tnb.engine_info()]
    assert before[1].limit == 3 << 20
    for later in ({"ENGINE": "python", "PINNED_LIMIT": "5MiB"}, {"ENGINE": "nonsense", "PINNED_LIMIT": "lots"}):
        for name, value in later.items():
            monkeypatch.setenv(f"TORCH_NP_BRIDGE_{name}", value)
        assert [bridge.engine_info() for bridge in opened] + [tnb.engine_info()] == before
    monkeypatch.setenv("TORCH_NP_BRIDGE_ENGINE", "auto")
    monkeypatch.setenv("TORCH_NP_BRIDGE_PINNED_LIMIT", "5MiB")
    assert tnb.Bridge().engine_info().limit == before[0].limit  # shared, and read when the process began


def test_an_engine_of_another_type_is_refused() -> None:
    for value in (None, 1, np.array(["native", "python"])):
        with pytest.raises(ValueError, match=r"^Bridge\(engine=\): expected one of auto, native, python, got "):
            tnb.Bridge(engine=value)  # type: ignore[arg-type]
