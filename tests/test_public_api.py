"""The names of the package: documented, inspectable, picklable by name, and the stub says what the module has."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import pickle
import pydoc
import re
import types
from typing import Any

import pytest
import torch
from helpers import ROOT, assert_silent, run_script

import torch_np_bridge as tnb
from torch_np_bridge.config import EngineChoice

NAMES = sorted(set(tnb.__all__) - {"__version__"})
FUNCTIONS = [name for name in NAMES if not isinstance(getattr(tnb, name), type)]
METHODS = [(owner, name) for owner in (tnb.Bridge, tnb.Transfer) for name in vars(owner) if not name.startswith("_")]


def test_all_is_what_there_is() -> None:
    assert len(set(tnb.__all__)) == len(tnb.__all__)
    own = {
        name
        for name, value in vars(tnb).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType) and name != "annotations"
    }
    assert own | {"__version__"} == set(tnb.__all__)
    namespace: dict[str, Any] = {}
    exec("from torch_np_bridge import *", namespace)
    assert set(tnb.__all__) <= set(namespace)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_has_its_home_and_its_help(name: str) -> None:
    value = getattr(tnb, name)
    assert value.__module__ == "torch_np_bridge"
    assert value.__name__ == value.__qualname__ == name
    assert value.__doc__ is not None
    assert len(value.__doc__) > 20
    assert name in pydoc.plain(pydoc.render_doc(value))


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_pickled_by_name(name: str) -> None:
    value = getattr(tnb, name)
    assert pickle.loads(pickle.dumps(value)) is value


def test_functions_pickled_here_load_where_there_is_no_extension() -> None:
    data = pickle.dumps([getattr(tnb, name) for name in FUNCTIONS])
    script = f"""
import sys
sys.modules["torch_np_bridge._build_info"] = sys.modules["torch_np_bridge._C"] = None
import pickle, torch
functions = pickle.loads({data!r})
import torch_np_bridge as tnb
assert tnb.engine_info().engine == "python"
assert functions == [getattr(tnb, name) for name in {FUNCTIONS}]
"""
    assert_silent(run_script(script))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_have_the_signatures_of_the_methods(name: str) -> None:
    function = inspect.signature(getattr(tnb, name))
    method = list(inspect.signature(getattr(tnb.Bridge, name)).parameters.values())[1:]
    assert [(p.name, p.kind, p.default) for p in function.parameters.values()] == [
        (p.name, p.kind, p.default) for p in method
    ]
    # `empty` is as NumPy has it, and a depth is as plain as a length.
    given = {"empty": 2, "prefetch_to_host": 2}.get(name, 1)
    options = list(function.parameters.values())[given:]
    assert all(option.kind is inspect.Parameter.KEYWORD_ONLY for option in options)


@pytest.mark.parametrize(("owner", "name"), METHODS, ids=lambda value: getattr(value, "__name__", value))
def test_methods_are_documented(owner: type, name: str) -> None:
    assert inspect.getdoc(getattr(owner, name))


def test_to_numpy_is_the_same_under_both_engines(engine: EngineChoice) -> None:
    script = """
import inspect, torch_np_bridge as tnb
signature = inspect.signature(tnb.to_numpy)
print([(p.name, p.kind.name, p.default) for p in signature.parameters.values() if p.default is not p.empty])
print(list(signature.parameters), inspect.getdoc(tnb.to_numpy).splitlines()[0])
"""
    assert_silent(
        run_script(script, TORCH_NP_BRIDGE_ENGINE=engine),
        output="[('dtype', 'KEYWORD_ONLY', None), ('copy', 'KEYWORD_ONLY', None), ('out', 'KEYWORD_ONLY', None)]\n"
        "['tree', 'dtype', 'copy', 'out'] The arrays of a tree of tensors, in the same structure.\n",
    )


def test_the_native_function_is_one_of_c(native: EngineChoice) -> None:
    """A Python function in front of a view would cost twice what the view does."""
    assert_silent(
        run_script(
            "import types, torch_np_bridge as tnb; assert type(tnb.to_numpy) is types.BuiltinFunctionType",
            TORCH_NP_BRIDGE_ENGINE=native,
        )
    )


@pytest.mark.parametrize(
    ("error", "base"),
    [
        ("UnsupportedTensorError", TypeError),
        ("EngineUnavailableError", RuntimeError),
        ("SourceMutatedError", RuntimeError),
    ],
)
def test_errors(error: str, base: type[Exception]) -> None:
    cls = getattr(tnb, error)
    assert issubclass(cls, base)
    travelled = pickle.loads(pickle.dumps(cls("expected a, got b")))
    assert (type(travelled), str(travelled)) == (cls, "expected a, got b")


def test_stats_and_engine_info_are_plain_records() -> None:
    for record in (tnb.stats(), tnb.engine_info()):
        assert dataclasses.is_dataclass(record)
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(record, dataclasses.fields(record)[0].name, None)
        assert pickle.loads(pickle.dumps(record)) == record


def stub() -> dict[str, Any]:
    """The classes and functions of the stub, with the names of their arguments."""

    def arguments(function: ast.FunctionDef) -> list[str]:
        return [argument.arg for argument in function.args.args if argument.arg != "self"]

    found: dict[str, Any] = {}
    for node in ast.parse((ROOT / "torch_np_bridge" / "_C.pyi").read_text()).body:
        if isinstance(node, ast.ClassDef):
            members = [member for member in node.body if isinstance(member, ast.FunctionDef)]
            found[node.name] = {member.name: arguments(member) for member in members}
        elif isinstance(node, ast.FunctionDef):
            found[node.name] = arguments(node)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = None
    return found


def compiled(native: EngineChoice) -> dict[str, Any]:
    """The same of the compiled module: pybind11 writes a signature into the first line of each docstring."""
    module = importlib.import_module("torch_np_bridge._C")

    def arguments(function: Any) -> list[str]:
        if isinstance(function, property):
            return []
        inside = re.search(r"\((.*)\) ->", function.__doc__)
        assert inside is not None
        names = re.findall(r"(\w+)(?=: )", re.sub(r"\[[^]]*\]", "", inside.group(1)))
        return [name for name in names if name != "self"]

    found: dict[str, Any] = {}
    for name, value in vars(module).items():
        if name.startswith("_"):
            continue
        if isinstance(value, type):
            members = {key: member for key, member in vars(value).items() if not key.startswith("_")}
            found[name] = {key: arguments(member) for key, member in members.items()}
            constructor = vars(value).get("__init__")
            if constructor is not None and "->" in constructor.__doc__:  # without one pybind11 has one that raises
                found[name]["__init__"] = arguments(constructor)
        else:
            found[name] = arguments(value) if callable(value) else None
    return found


def test_the_stub_agrees_with_the_module(native: EngineChoice) -> None:
    assert stub() == compiled(native)


def test_the_native_engine_meets_the_protocol(native: EngineChoice) -> None:
    """Both engines have what the protocol asks for, with the same arguments, and nothing else that is public."""
    from torch_np_bridge import engine as engines
    from torch_np_bridge._python_engine import Finished, PythonEngine

    described = compiled(native)
    for protocol, python, name in ((engines.Engine, PythonEngine, "Engine"), (engines.Pending, Finished, "Pending")):
        wanted = {key: value for key, value in vars(protocol).items() if not key.startswith("_")}
        members = {key: value for key, value in described[name].items() if not key.startswith("_")}
        assert set(members) == set(wanted) == {key for key in vars(python) if not key.startswith("_")}
        for key, value in wanted.items():
            if not isinstance(value, property):
                names = list(inspect.signature(value).parameters)[1:]
                assert members[key] == names == list(inspect.signature(getattr(python, key)).parameters)[1:]


def test_the_version_is_in_one_place() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", tnb.__version__)
    assert tnb.engine_info().versions["torch"] == torch.__version__


@pytest.mark.parametrize("name", NAMES)
def test_every_name_has_a_signature(name: str) -> None:
    assert inspect.signature(getattr(tnb, name)).parameters is not None
