"""Finds the CUDA toolkit and compiles ``csrc/cuda/*.cu`` with it. Knows nothing of torch and of visible GPUs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

BINARIES = ("sm_80", "sm_90", "sm_100")
PTX = "compute_90"
FLAGS = ("-O3", "-std=c++17", "-Xcompiler", "-fPIC,-fvisibility=hidden,-Wall,-Wextra")


class ToolkitError(Exception):
    """There is no toolkit, or none that can build the kernels; the message says which and what is missing."""


@dataclass(frozen=True)
class Toolkit:
    """One toolkit, as its own nvcc describes it."""

    nvcc: Path
    found_by: str
    version: str
    archs: tuple[str, ...]
    library_folder: Path

    def link_args(self) -> list[str]:
        """What links the kernels' objects: cudart inside, none of its symbols outside."""
        libraries = ["-lcudart_static", "-ldl", "-lrt", "-lpthread"]
        return [f"-L{self.library_folder}", *libraries, "-Wl,--exclude-libs,ALL"]


def find_toolkit(environ: Mapping[str, str] = os.environ) -> Toolkit:
    """The toolkit that ``CUDA_HOME`` names, else the one that the nvcc on the PATH, maybe a wrapper, answers for."""
    if home := environ.get("CUDA_HOME"):
        nvcc, found_by = Path(home, "bin", "nvcc"), "CUDA_HOME"
        if not os.access(nvcc, os.X_OK):
            raise ToolkitError(f"CUDA_HOME={home} has no bin/nvcc")
    else:
        on_path = shutil.which("nvcc", path=environ.get("PATH"))
        if on_path is None:
            raise ToolkitError("no CUDA toolkit: CUDA_HOME is not set and no nvcc is on the PATH")
        nvcc, found_by = Path(on_path), "nvcc on the PATH"
    return _describe(nvcc, found_by)


def compile_kernels(toolkit: Toolkit, sources: Sequence[Path], headers: Sequence[Path], folder: Path) -> list[Path]:
    """One object in ``folder`` for each source; compiled again if a file is newer or the command is another."""
    folder.mkdir(parents=True, exist_ok=True)
    return [_compile(toolkit, source, headers, folder) for source in sources]


def _describe(nvcc: Path, found_by: str) -> Toolkit:
    # A dry run names no source that has to exist, and reports the folders that nvcc itself would use.
    dry_run = _ask(nvcc, "--dryrun", "-c", "none.cu")
    top = re.search(r"^#\$ TOP=(.+)$", dry_run, re.MULTILINE)
    release = re.search(r"release (\d+\.\d+)", _ask(nvcc, "--version"))
    if top is None or release is None:
        raise ToolkitError(f"{nvcc} does not answer as nvcc does")
    real = Path(top.group(1)).resolve() / "bin" / "nvcc"
    folders = [Path(entry) for entry in re.findall(r'"-L([^"]+)"', dry_run)]
    library = next((path.resolve() for path in folders if (path / "libcudart_static.a").exists()), None)
    if library is None:
        raise ToolkitError(f"the toolkit of {real} has no libcudart_static.a")
    known = _ask(nvcc, "--list-gpu-code").split()
    if "sm_90" not in known:
        raise ToolkitError(f"CUDA {release.group(1)} of {real} is too old: expected 11.8 or newer")
    archs = tuple(arch for arch in BINARIES if arch in known)
    return Toolkit(real if real.exists() else nvcc, found_by, release.group(1), (*archs, PTX), library)


def _ask(nvcc: Path, *arguments: str) -> str:
    try:
        answer = subprocess.run([nvcc, *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ToolkitError(f"{nvcc} {' '.join(arguments)} fails ({error})") from error
    return answer.stdout + answer.stderr


def _compile(toolkit: Toolkit, source: Path, headers: Sequence[Path], folder: Path) -> Path:
    target = folder / f"{source.stem}.o"
    recorded = folder / f"{source.stem}.command"
    codes = [f"-gencode=arch=compute_{arch.split('_')[1]},code={arch}" for arch in toolkit.archs]
    command = [str(toolkit.nvcc), *FLAGS, *codes, "-c", str(source), "-o", str(target)]
    line = "\n".join([*command, toolkit.version])
    inputs = [path.stat().st_mtime_ns for path in (source, *headers)]
    same_command = recorded.exists() and recorded.read_text() == line
    if same_command and target.exists() and target.stat().st_mtime_ns > max(inputs):
        return target
    target.unlink(missing_ok=True)
    print(" ".join(command), flush=True)
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise ToolkitError(f"{toolkit.nvcc} does not run ({error})") from error
    said = (done.stdout + done.stderr).strip()
    if said:
        print(said, flush=True)
    if done.returncode != 0:
        complaint = next((text for text in said.splitlines() if "error" in text.lower()), "without a word")
        raise ToolkitError(f"{toolkit.nvcc} refuses {source.name}, status {done.returncode}: {complaint.strip()}")
    recorded.write_text(line)
    return target
