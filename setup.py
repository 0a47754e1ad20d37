"""Builds torch_np_bridge: the native engine and the CUDA kernels where they can be had, else pure Python.

TORCH_NP_BRIDGE_NATIVE and TORCH_NP_BRIDGE_CUDA take ``auto`` (what can be had), ``0`` and ``1`` (fail where it cannot).
What is missing makes ``auto`` fall back with one sentence, and so does an nvcc that refuses the kernels; C++ that does
not compile is an error all the same.
"""

from __future__ import annotations

import shutil
import sys
import sysconfig
from pathlib import Path
from typing import Any, ClassVar

from setuptools import setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))  # a build front end runs this file without its folder on the path

from build_support.cuda_toolkit import ToolkitError, compile_kernels  # noqa: E402
from build_support.objects import discard_stale_objects  # noqa: E402
from build_support.plan import Plan, make_plan  # noqa: E402

PACKAGE = "torch_np_bridge"
PLAN = make_plan()


def build_folder(plan: Plan) -> Path:
    """Objects of one variant are never linked into another."""
    return ROOT / "build" / plan.variant


def objects_folder(plan: Plan) -> Path:
    """Where the objects lie, without those that an earlier source may have left."""
    folder = build_folder(plan) / "objects"
    discard_stale_objects(folder, [path for path in ROOT.glob("csrc/**/*") if path.is_file()])
    return folder


def compiled_kernels(plan: Plan) -> tuple[Plan, list[str]]:
    """The objects of the kernels, and the plan without them where the toolkit refuses their sources."""
    if plan.toolkit is None:
        return plan, []
    sources, headers = sorted(ROOT.glob("csrc/cuda/*.cu")), sorted(ROOT.glob("csrc/**/*.h"))
    try:
        objects = compile_kernels(plan.toolkit, sources, headers, objects_folder(plan) / "kernels")
    except ToolkitError as error:
        return plan.without_kernels(error), []
    return plan, [str(path) for path in objects]


def extensions(plan: Plan) -> list[Any]:
    if plan.torch is None:
        return []
    import numpy
    from torch.utils.cpp_extension import CppExtension, include_paths

    foreign = [*include_paths(), numpy.get_include(), sysconfig.get_path("include")]
    kernels = plan.toolkit
    macros = [
        ("TNB_BUILT_FOR_TORCH", f'"{plan.torch}"'),
        ("TNB_CUDA_ARCHS", f'"{" ".join(kernels.archs) if kernels else ""}"'),
        ("TNB_CUDA_TOOLKIT", f'"{kernels.version if kernels else ""}"'),
        *([("TNB_WITH_KERNELS", "1")] if kernels else []),
    ]
    # NDEBUG by name: CFLAGS in the environment replaces the flags that Python was built with, this one included.
    flags = ["-std=c++20", "-O2", "-g0", "-DNDEBUG", "-fvisibility=hidden", "-Wall", "-Wextra"]
    extension = CppExtension(
        f"{PACKAGE}._C",
        sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("csrc/*.cpp")),
        define_macros=macros,
        # A folder that is also given by -isystem counts as the system's: the warnings there are not ours.
        extra_compile_args=[*flags, *(f"-isystem{folder}" for folder in foreign)],
        extra_link_args=kernels.link_args() if kernels else [],
    )
    return [extension]


def build_ext_class(plan: Plan) -> type[build_ext]:
    base: Any = build_ext
    if plan.torch is not None:
        from torch.utils.cpp_extension import BuildExtension as base  # noqa: N813

    class BuildExt(base):  # type: ignore[misc]
        """Leaves nothing of an earlier variant beside the package, and records there what was built."""

        def finalize_options(self) -> None:
            super().finalize_options()
            self.force = True

        def run(self) -> None:
            chosen, kernels = compiled_kernels(plan)
            more = "to get the native engine run: pip install --no-build-isolation ."
            if chosen.torch is not None:
                more = f"kernels: {chosen.kernels_reason}"
            print(f"{PACKAGE}: {chosen.native_reason}; {more}", flush=True)
            package = ROOT / PACKAGE if self.inplace else Path(self.build_lib, PACKAGE)
            for stale in (*package.glob("_C.*so"), package / "_build_info.py"):
                stale.unlink(missing_ok=True)
            if chosen.torch is not None:
                [extension], [fitting] = self.extensions, extensions(chosen)
                extension.define_macros, extension.extra_link_args = fitting.define_macros, fitting.extra_link_args
                extension.extra_objects = kernels
                self.build_temp = str(objects_folder(chosen))
            super().run()
            package.mkdir(parents=True, exist_ok=True)
            (package / "_build_info.py").write_text(
                '"""What this copy was built as; written by setup.py."""\n\n'
                f"BUILT_FOR_TORCH: str | None = {chosen.torch!r}\n"
                f"NATIVE_REASON = {chosen.native_reason!r}\n"
                f"KERNELS_REASON = {chosen.kernels_reason!r}\n"
            )

    return BuildExt


class Build(build):  # type: ignore[misc]
    """Always runs build_ext, which records why there is no extension too, and starts from an empty folder."""

    sub_commands: ClassVar = [(name, None if name == "build_ext" else when) for name, when in build.sub_commands]

    def run(self) -> None:
        shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()


setup(
    ext_modules=extensions(PLAN),
    cmdclass={"build": Build, "build_ext": build_ext_class(PLAN)},
    options={"build": {"build_base": str(build_folder(PLAN))}},
)
