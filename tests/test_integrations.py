"""The integrations cost nothing until they are asked for, and one without its library says how to install it."""

from __future__ import annotations

import inspect
from importlib import import_module

import pytest
from conftest import INTEGRATIONS, require
from helpers import assert_silent, run_script

LIBRARIES = {
    "ray": ("ray", "Ray Data"),
    "lightning": ("lightning", "Lightning"),
    "arrow": ("pyarrow", "pyarrow"),
}
ALLOWED = {"torch_np_bridge", "torch", "numpy", "optree", "ml_dtypes"}


@pytest.mark.parametrize("package", ["torch_np_bridge", "torch_np_bridge.integrations"])
def test_importing_the_package_imports_no_other_library(package: str) -> None:
    """What that takes beyond torch, NumPy and optree is measured by benchmarks/bench_import.py."""
    assert_silent(
        run_script(
            "import sys, torch, numpy, optree, ml_dtypes\n"
            "before = set(sys.modules)\n"
            f"import {package}\n"
            "packages = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
            f"others = packages - set(sys.stdlib_module_names) - {ALLOWED}\n"
            "assert not others, others\n"
        )
    )


@pytest.mark.parametrize("name", INTEGRATIONS)
def test_an_absent_library_is_named_with_its_extra(name: str) -> None:
    module, title = LIBRARIES[name]
    assert_silent(
        run_script(
            f"import sys\nsys.modules[{module!r}] = None\n"
            f"try:\n    import torch_np_bridge.integrations.{name}\n"
            "except ImportError as error:\n    words = str(error)\n"
            f"assert words.startswith('expected {title} beside torch_np_bridge, got: '), words\n"
            f"assert words.endswith(\"; run: pip install 'torch-np-bridge[{name}]'\"), words\n"
        )
    )


@pytest.mark.parametrize("name", INTEGRATIONS)
def test_every_name_has_its_help(name: str) -> None:
    require(name)
    module = import_module(f"torch_np_bridge.integrations.{name}")
    for public in module.__all__:
        value = getattr(module, public)
        assert value.__module__ == module.__name__
        assert inspect.getdoc(value)
        assert inspect.signature(value).parameters
