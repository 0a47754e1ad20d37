"""Compiles the kernels' own sources as C++, with the shim in the place of CUDA, into a library for ctypes.

Each variant of the sources, the compiler and its flags has a file of its own under the repository's
`build/kernel_on_cpu/`, named by what it was made from. Two processes that build at once are kept apart by a lock.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_SHIM = Path(__file__).parent / "csrc"
_BUILD = _ROOT / "build" / "kernel_on_cpu"
_KERNELS = tuple(_ROOT / "csrc" / "cuda" / name for name in ("pack.cu", "launch_plan.cu", "driver.cu"))
# The simulated accelerator's, for the runtime that asks it.
_C_API = _ROOT / "tests" / "fake_device" / "csrc" / "c_api.h"

_FLAGS = (
    "-std=c++20", "-O1", "-g1", "-fPIC", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas",
)  # fmt: skip
SANITIZER = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")


class BuildError(RuntimeError):
    """The kernels do not compile as C++; what the compiler said."""


def compiler() -> str | None:
    """The C++ compiler that CXX names, else g++; None where there is none."""
    return shutil.which(os.environ.get("CXX") or "g++")


def _includes() -> list[str]:
    folders = (_SHIM / "stand_ins", _SHIM, _ROOT / "csrc" / "cuda", _ROOT / "csrc")
    return ["-include", str(_SHIM / "shim.h"), *(f"-I{folder}" for folder in folders)]


def _sources() -> list[Path]:
    return [*_KERNELS, *sorted(_SHIM.glob("*.cpp"))]


def _digest(parts: Iterable[str | bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
        digest.update(b"\0")
    return digest.hexdigest()[:16]


def _headers() -> str:
    folders = (_ROOT / "csrc", _ROOT / "csrc" / "cuda", _SHIM, _SHIM / "stand_ins")
    headers = [header for folder in folders for header in sorted(folder.glob("*.h"))]
    return _digest(header.read_bytes() for header in [*headers, _C_API])


def _run(command: list[str]) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(f"{' '.join(command)}\n{done.stdout}")


def _object(source: Path, settings: list[str], headers: str) -> Path:
    target = _BUILD / f"{source.stem}-{_digest([*settings, headers, source.read_bytes()])}.o"
    if not target.exists():
        unfinished = target.with_suffix(".unfinished")
        _run([*settings, "-x", "c++", "-c", str(source), "-o", str(unfinished)])
        unfinished.replace(target)
    return target


def library_path(*, sanitized: bool = False, toolkit: int | None = None) -> Path:
    """The library, built if it is not there yet.

    `sanitized` is for a process in `sanitized_environment()`, `toolkit` the CUDA that it is compiled as by.
    """
    found = compiler()
    if found is None:
        raise BuildError("expected the C++ compiler g++, or one named by CXX; found none")
    flags = SANITIZER if sanitized else ()
    version = [] if toolkit is None else [f"-DCUDART_VERSION={toolkit}"]
    settings = [found, *_FLAGS, *flags, *version, *_includes()]
    headers = _headers()
    contents = (source.read_bytes() for source in _sources())
    target = _BUILD / f"kernel_on_cpu-{_digest([*settings, headers, *contents])}.so"
    _BUILD.mkdir(parents=True, exist_ok=True)
    with open(_BUILD / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                objects = list(pool.map(lambda source: str(_object(source, settings, headers)), _sources()))
            unfinished = target.with_suffix(".unfinished")
            _run([found, *flags, "-shared", *objects, "-o", str(unfinished)])
            unfinished.replace(target)
    return target


def sanitized_environment() -> dict[str, str] | None:
    """What a process needs that loads the sanitized library; None where there are no sanitizers."""
    found = compiler()
    if found is None:
        return None
    names = ("libasan.so", "libubsan.so", "libstdc++.so")  # ASan looks for the exceptions of the last when it starts
    answers = [
        subprocess.run([found, f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()
        for name in names
    ]
    # Leaks are off: Python and torch keep objects for good.
    options = {"ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1"}
    environment = {**os.environ, "LD_PRELOAD": " ".join(str(Path(answer).resolve()) for answer in answers), **options}
    complete = all(map(os.path.isabs, answers))
    return environment if complete and _starts(environment) else None


def _starts(environment: dict[str, str]) -> bool:
    done = subprocess.run([sys.executable, "-c", ""], env=environment, capture_output=True, check=False)
    return done.returncode == 0 and done.stderr == b""
