"""What the commands share: their list, `--device` and `--load`."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from commands import run_command, simulated_module

from torch_np_bridge.__main__ import main
from torch_np_bridge.cli.target import Target


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--device", "nonsense"], ["--device", "nonsense", "cpu", "--load"]),
        (["--device", "meta"], ["--device", "meta", "cpu"]),
        (["--load", "no_such_module"], ["--load", "no_such_module", "PYTHONPATH"]),
    ],
)
def test_wrong_target_is_a_sentence(arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--quick", *arguments]) == 2
    message = capsys.readouterr().err
    assert [word for word in words if word not in message] == []


def test_a_module_that_cannot_serve_is_a_sentence() -> None:
    done = run_command("doctor", "--load", "fake_device", CXX="no-such-compiler")
    assert done.returncode == 2
    assert "--load: expected a module that registers a device type, got fake_device: " in done.stderr
    assert "no 'no-such-compiler' on the PATH" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_only_a_loaded_module_makes_a_device_simulated() -> None:
    module = simulated_module()
    assert Target(torch.device("meta"), module).simulated
    assert not Target(torch.device("meta"), ModuleType("hardware")).simulated
    assert not Target(torch.device("cpu"), module).simulated


def test_commands_list_themselves() -> None:
    done = run_command("--help")
    assert done.returncode == 0
    assert all(name in done.stdout for name in ("demo", "doctor", "bench"))
    assert "beside plain .cpu().numpy()\n" in done.stdout
