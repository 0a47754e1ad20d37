"""`demo`: it passes only where both ways agree, and it claims no more than it measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from commands import info_of, run_command, run_python, simulated_module

from torch_np_bridge.__main__ import main
from torch_np_bridge.cli import demo
from torch_np_bridge.cli.digits import Digits, by_bridge
from torch_np_bridge.cli.target import Target


def test_demo_on_the_cpu_claims_no_speed(engine: str) -> None:
    done = run_command("demo", "--device", "cpu", "--engine", engine)
    assert done.returncode == 0, done.stderr
    assert f"Engine: {engine}" in done.stdout
    assert "equal bits" in done.stdout
    assert "No accelerator was used" in done.stdout
    assert "180/180" in done.stdout
    assert "×" not in done.stdout


def test_demo_on_an_accelerator(accelerator: str, engine: str) -> None:
    load = ["--load", "fake_device"] if accelerator == "fake" else []
    done = run_command("demo", "--device", accelerator, *load, "--engine", engine)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "equal bits" in done.stdout
    assert ("(simulated)" in done.stdout) == (accelerator == "fake")
    if engine == "python":
        assert "claims no speed" in done.stdout
    elif accelerator == "fake":
        assert "says nothing about the speed of any hardware" in done.stdout


def test_demo_says_that_the_fallback_runs_and_why() -> None:
    done = run_command("demo", "--device", "cpu", TORCH_NP_BRIDGE_ENGINE="python")
    assert done.returncode == 0, done.stderr
    assert "Engine: python, the fallback: asked for by TORCH_NP_BRIDGE_ENGINE=python" in done.stdout


def test_demo_fails_where_arrays_differ(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def with_one_bit_changed(*arguments: Any) -> list[np.ndarray[Any, Any]]:
        arrays = [array.copy() for array in by_bridge(*arguments)]
        arrays[-1].view(np.uint8)[-1, -1] ^= 1
        return arrays

    monkeypatch.setattr(demo, "by_bridge", with_one_bit_changed)
    assert main(["demo", "--device", "cpu"]) == 1
    output = capsys.readouterr().out
    assert "DIFFERENT" in output
    assert "FAILED" in output


def test_demo_fails_where_accuracy_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    accuracies = iter([0.9, 0.8])
    monkeypatch.setattr(Digits, "accuracy", lambda digits, features: next(accuracies))
    assert main(["demo", "--device", "cpu"]) == 1


@pytest.mark.parametrize("missing", ["sklearn", "rich"])
def test_demo_without_its_extra_says_what_to_install(missing: str) -> None:
    run_main = "from torch_np_bridge.__main__ import main; sys.exit(main(['demo']))"
    done = run_python("-c", f"import sys; sys.modules[{missing!r}] = None; {run_main}")
    assert done.returncode == 2
    assert f"no {missing}" in done.stderr
    assert "pip install scikit-learn rich" in done.stderr
    assert "Traceback" not in done.stderr


def outcome(bridge: float, plain: float) -> demo.Outcome:
    return demo.Outcome(demo.Way("b", [bridge], 0.9), demo.Way("p", [plain], 0.9), True, (1, 1))


def test_demo_names_a_simulated_device_and_gives_no_ratio() -> None:
    text = demo._verdict(outcome(0.1, 0.2), Target(torch.device("meta"), simulated_module()), info_of("native"))
    assert "is simulated" in text
    assert "×" not in text


def test_demo_gives_a_ratio_on_hardware_whatever_it_is() -> None:
    text = demo._verdict(outcome(0.3, 0.2), Target(torch.device("meta"), None), info_of("native"))
    assert "1.50 ×" in text


def test_demo_claims_no_speed_for_the_fallback() -> None:
    text = demo._verdict(outcome(0.1, 0.2), Target(torch.device("meta"), None), info_of("python"))
    assert "claims no speed" in text
