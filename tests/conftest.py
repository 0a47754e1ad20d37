"""What every test may ask for: an engine, a device, a bridge. The one place that decides about skips.

`TNB_REQUIRE=native,fake` or `native,cuda`, or one of these, turns the absence of what it names into a failure. It takes
the extras `ray`, `lightning`, `arrow` and `recipes` too. Where torch sees a CUDA device, that is what the tests run on,
unless the fake accelerator is required.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings

import torch_np_bridge as tnb
from torch_np_bridge.config import EngineChoice

# A kernel that is loaded at its first launch may wait for the device, and a latch would hold that for good. CUDA reads
# it when it is first asked for anything.
os.environ.setdefault("CUDA_MODULE_LOADING", "EAGER")
pytest.register_assert_rewrite("helpers")
# How long an example takes says how busy the machine is: by default 200 ms make a failure.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

INTEGRATIONS = ("ray", "lightning", "arrow")
RECIPES = ("transformers", "accelerate", "tensordict", "zarr", "h5py", "sklearn")
THINGS = ("native", "fake", "cuda", *INTEGRATIONS, "recipes")
REQUIRED = frozenset(name.strip() for name in os.environ.get("TNB_REQUIRE", "").split(",") if name.strip())
# A process has one of them: once a fake device is registered, torch.accelerator and page-locking mean it alone.
ACCELERATOR = "cuda" if "cuda" in REQUIRED or (torch.cuda.is_available() and "fake" not in REQUIRED) else "fake"
# Its own tests need it to be collected at all, so without a compiler they are left out here.
COMPILER = os.environ.get("CXX", "").split() or ["g++"]  # CXX may be "ccache g++"
NO_COMPILER = shutil.which(COMPILER[0]) is None and "fake" not in REQUIRED
collect_ignore = ["fake_device"] if ACCELERATOR == "cuda" or NO_COMPILER else []


def pytest_configure() -> None:
    with warnings.catch_warnings():
        # Torch says once in a process that complex32 is experimental: not in the midst of a test.
        warnings.simplefilter("ignore")
        torch.empty(0, dtype=torch.complex32)
    if unknown := REQUIRED - set(THINGS):
        raise pytest.UsageError(f"TNB_REQUIRE: expected some of {', '.join(THINGS)}, got {', '.join(sorted(unknown))}")
    if {"fake", "cuda"} <= REQUIRED:
        raise pytest.UsageError(
            "TNB_REQUIRE: expected fake or cuda, got both; torch knows one of them a process: run twice"
        )


@cache
def absence(thing: str) -> str | None:
    """Why `thing` is not there; None where it is."""
    if thing == "native":
        try:
            tnb.Bridge(engine="native").close()
        except tnb.EngineUnavailableError as error:
            return str(error)
    if thing == "fake" and ACCELERATOR == "cuda":
        return "expected the fake accelerator, got CUDA, of which a process has one; TNB_REQUIRE=fake chooses the fake"
    if thing == "fake":
        try:
            import_module("fake_device")
        except RuntimeError as error:  # no compiler, or it refused the sources
            return f"expected the fake accelerator, got none: {error}"
        if absence("native") is None:
            fake_driver().register()
    if thing in INTEGRATIONS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what their libraries say of themselves
            try:
                import_module(f"torch_np_bridge.integrations.{thing}")
            except ImportError as error:
                return str(error)
    if thing in RECIPES and find_spec(thing) is None:
        return f"expected {thing}, got none; pip install 'torch-np-bridge[recipes]'"
    if thing == "cuda" and not torch.cuda.is_available():
        return "expected a CUDA device, torch.cuda.is_available() says that there is none"
    if thing == "cuda" and ACCELERATOR == "fake":
        return "expected CUDA, got the fake accelerator, of which a process has one; TNB_REQUIRE=cuda chooses CUDA"
    return None


def fake_driver() -> ModuleType:
    """The fake driver's functions for the native engine; only where both are there."""
    return import_module("fake_driver")


def require(thing: str) -> None:
    """Skips the test where `thing` is missing, or fails it where the environment asks for it."""
    reason = absence(thing)
    if reason is None:
        return
    if thing in REQUIRED or (thing in RECIPES and "recipes" in REQUIRED):
        pytest.fail(f"TNB_REQUIRE={','.join(sorted(REQUIRED))}: {reason}", pytrace=False)
    pytest.skip(f"{thing}: {reason.splitlines()[0]}", allow_module_level=True)


@pytest.fixture(params=["python", "native"], scope="session")
def engine(request: pytest.FixtureRequest) -> EngineChoice:
    """The name of an engine that can be used."""
    if request.param == "native":
        require("native")
    name: EngineChoice = request.param
    return name


@pytest.fixture(params=["cpu", ACCELERATOR], scope="session")
def device(request: pytest.FixtureRequest) -> str:
    """A device type that can be used."""
    if request.param != "cpu":
        require(request.param)
    name: str = request.param
    return name


@pytest.fixture(params=[ACCELERATOR], scope="session")
def accelerator(request: pytest.FixtureRequest) -> str:
    """A device type that copies behind the caller's back."""
    require(request.param)
    name: str = request.param
    return name


@pytest.fixture
def gpu() -> str:
    """CUDA, for what the fake accelerator cannot show."""
    require("cuda")
    return "cuda"


@pytest.fixture
def kernels(gpu: str) -> str:
    """The same with CUDA's kernels in the extension, and so a runtime of its own."""
    require("native")
    if (found := tnb.engine_info().kernels).startswith("none"):
        pytest.skip(f"expected CUDA kernels in this build, got {found}")
    return gpu


@pytest.fixture
def two_gpus(gpu: str) -> str:
    """The same where there is more than one device."""
    if torch.cuda.device_count() < 2:
        pytest.skip("expected two CUDA devices, got one")
    return gpu


@pytest.fixture
def native() -> EngineChoice:
    """The native engine, for what only it does."""
    require("native")
    return "native"


@pytest.fixture
def fake() -> ModuleType:
    """The fake accelerator's module: latches, counters and failures."""
    require("fake")
    import fake_device

    return fake_device


@pytest.fixture(params=["allocated", "own"])
def host_pages(request: pytest.FixtureRequest, native: EngineChoice) -> str:
    """Both kinds of page-locked memory: of the device type's host allocator, and pages of ours locked in place."""
    kind: str = request.param
    if ACCELERATOR == "fake":
        require("fake")
        fake_driver().register(own_pages=kind == "own")
    elif kind == "own":
        pytest.skip("expected the fake accelerator, which has both kinds; got CUDA, which has the one of this build")
    return kind


@pytest.fixture(params=["driver", "torch"])
def copied_by(request: pytest.FixtureRequest, native: EngineChoice) -> str:
    """Who starts the copies of dense bytes: a function of the driver, or torch's `copy_`, where there is none."""
    who: str = request.param
    if ACCELERATOR == "fake":
        require("fake")
        without = frozenset({"copy_to_host"}) if who == "torch" else frozenset[str]()
        fake_driver().register(own_pages=False, without=without)
    elif who == "driver":
        pytest.skip("expected the fake accelerator, which has both ways; got CUDA, which has the one of this build")
    return who


@pytest.fixture(params=["one by one", "packed"])
def packing(request: pytest.FixtureRequest, native: EngineChoice) -> str:
    """How the small leaves of a tree are copied: each by itself, or all by the packer of their device type."""
    way: str = request.param
    if ACCELERATOR == "fake":
        require("fake")
        fake_driver().register(packer=way == "packed")
    elif way == "one by one":
        pytest.skip("expected the fake accelerator, which can do without its packer; got CUDA, which has one")
    return way


def use_first(device: str) -> None:
    """The first call for a device finds out what it has, which counters see: no test is to depend on which that is."""
    for index in range(torch.accelerator.device_count()):
        tnb.to_numpy(torch.zeros(1, device=f"{device}:{index}"))


@pytest.fixture
def packer(fake: ModuleType) -> ModuleType:
    """The fake accelerator with a packer, for what is about that."""
    require("native")
    use_first("fake")
    fake_driver().register(packer=True)
    return fake


@pytest.fixture
def cuda_entries(fake: ModuleType) -> Any:
    """All that is CUDA's for the fake accelerator, the kernel too; what its runtime is asked, and answers."""
    require("native")
    if import_module("kernel_on_cpu.build").compiler() is None:
        pytest.skip("expected the C++ compiler g++, or one named by CXX; found none")
    use_first("fake")
    return fake_driver().register_cuda()


@pytest.fixture
def bridge(engine: EngineChoice) -> Iterator[tnb.Bridge]:
    """A bridge of the engine, with a pool of its own."""
    with tnb.Bridge(engine=engine) as opened:
        yield opened


@pytest.fixture
def native_bridge(native: EngineChoice) -> Iterator[tnb.Bridge]:
    """A bridge of the native engine."""
    with tnb.Bridge(engine=native) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _whole_fake_device(request: pytest.FixtureRequest) -> Iterator[None]:
    """No failure, cost or limit that one test put into the fake accelerator reaches the next."""
    yield
    if {"fake", "device", "accelerator", "host_pages", "copied_by", "packing"} & set(request.fixturenames) and absence(
        "fake"
    ) is None:
        import fake_device

        fake_device.restore_defaults()
        if absence("native") is None:
            fake_driver().register()


def pytest_report_header() -> list[str]:
    versions: dict[str, Any] = tnb.engine_info().versions
    return [f"torch_np_bridge: {', '.join(f'{name} {version}' for name, version in versions.items())}"]
