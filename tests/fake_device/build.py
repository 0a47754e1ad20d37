"""Compiles the fake accelerator's module, once per variant.

A variant is a version of torch, a version of Python, the compiler's flags and the sources. Each has a folder of its own
under the repository's `build/fake_device/`, so that switching between two never ships a stale file. Two processes that
build at once are kept apart by a lock; the second finds the first one's result.
"""

import fcntl
import hashlib
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import torch

_SOURCES = Path(__file__).parent / "csrc"
# What the engine and the fake driver have in common: the description of tensors to pack.
_SHARED = Path(__file__).parents[2] / "csrc" / "cuda" / "pack.h"
_BUILD = Path(__file__).parents[2] / "build" / "fake_device"
_MODULE = "_fake"


def _compiler() -> str:
    return os.environ.get("CXX", "").strip() or "g++"


def _flags() -> list[str]:
    torch_include = Path(torch.__file__).parent / "include"
    # The sources are C++17; torch's own headers ask for more from 2.14 on.
    major, minor = (int(part) for part in torch.__version__.split(".")[:2])
    return [
        f"-I{_SHARED.parent}",
        "-std=c++20" if (major, minor) >= (2, 14) else "-std=c++17",
        "-O1",
        "-g0",
        "-fPIC",
        "-fvisibility=hidden",
        "-Wall",
        "-Wextra",
        "-Wno-unused-parameter",
        f"-D_GLIBCXX_USE_CXX11_ABI={int(torch._C._GLIBCXX_USE_CXX11_ABI)}",
        f"-isystem{torch_include}",
        f"-isystem{torch_include / 'torch' / 'csrc' / 'api' / 'include'}",
        f"-isystem{sysconfig.get_paths()['include']}",
    ]


def _link_flags() -> list[str]:
    libraries = Path(torch.__file__).parent / "lib"
    return ["-shared", f"-L{libraries}", "-lc10", "-ltorch_cpu", "-lpthread"]


def _digest(parts: Iterable[str | bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
        digest.update(b"\0")
    return digest.hexdigest()[:16]


def _variant_folder() -> Path:
    settings = _digest([sys.version, _compiler(), *_flags(), *_link_flags()])
    return _BUILD / f"torch{torch.__version__}-{sys.implementation.cache_tag}-{settings}"


def _sources() -> list[Path]:
    return sorted(_SOURCES.glob("*.cpp"))


def _headers() -> str:
    return _digest(header.read_bytes() for header in [*sorted(_SOURCES.glob("*.h")), _SHARED])


def _module_file(folder: Path) -> Path:
    sources = _digest([_headers(), *(part for file in _sources() for part in (file.name, file.read_bytes()))])
    return folder / f"{_MODULE}-{sources}{sysconfig.get_config_var('EXT_SUFFIX')}"


def _ninja_file(folder: Path, target: Path) -> str:
    """Objects are named by what they are made from, so that times of files never decide what is up to date."""

    def escape(path: Path) -> str:
        return str(path).replace("$", "$$").replace(" ", "$ ").replace(":", "$:")

    def words(flags: list[str]) -> str:
        return shlex.join(flags).replace("$", "$$")

    lines = [
        "rule compile",
        f"  command = {_compiler()} {words(_flags())} -c $in -o $out",
        "rule link",
        f"  command = {_compiler()} $in {words(_link_flags())} -o $out",
    ]
    objects = []
    headers = _headers()
    for source in _sources():
        built = escape(folder / f"{source.stem}-{_digest([headers, source.read_bytes()])}.o")
        objects.append(built)
        lines.append(f"build {built}: compile {escape(source)}")
    lines.append(f"build {escape(target)}: link {' '.join(objects)}")
    return "\n".join(lines) + "\n"


def _ninja() -> str:
    beside_python = Path(sys.executable).parent / "ninja"
    found = str(beside_python) if beside_python.exists() else shutil.which("ninja")
    if found is None:
        raise RuntimeError("expected ninja to build the fake accelerator, found none; run `pip install ninja`")
    return found


def _compile(folder: Path, target: Path) -> None:
    if shutil.which(_compiler().split()[0]) is None:
        raise RuntimeError(
            f"expected a C++ compiler to build the fake accelerator, found no {_compiler().split()[0]!r} on the PATH; "
            "install one (Debian: apt-get install g++), or name another by CXX"
        )
    unfinished = folder / f"unfinished-{target.name}"
    (folder / "build.ninja").write_text(_ninja_file(folder, unfinished))
    command = [_ninja(), "-C", str(folder)]
    if jobs := os.environ.get("MAX_JOBS"):
        command += ["-k", "0", "-j", jobs]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the fake accelerator did not compile:\n{done.stdout}")
    unfinished.replace(target)


def library_path() -> Path:
    """The compiled module of this variant, built if it is not there yet. It exports `csrc/c_api.h` too."""
    folder = _variant_folder()
    target = _module_file(folder)
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not target.exists():
                _compile(folder, target)
    return target


def load() -> ModuleType:
    """Imports the compiled module as `fake_device._fake`."""
    name = f"{__package__}.{_MODULE}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, library_path())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules[name] = module
    return module
