"""`doctor`: it fails where a self-test does, and says what to do about what is missing."""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any

import pytest
import torch
from commands import info_of, run_command, run_python

import torch_np_bridge
from torch_np_bridge.__main__ import main
from torch_np_bridge.cli import doctor, selftest
from torch_np_bridge.engine import Extension, extension


def test_doctor_as_json() -> None:
    done = run_command("doctor", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["passed"] is True
    assert {"versions", "engine", "devices", "driver", "toolkit", "limits", "selftests", "advice"} <= report.keys()
    assert report["versions"]["torch"] == torch.__version__
    assert report["limits"].keys() == {"pinned_bytes", "rlimit_memlock_bytes", "cgroup_memory_bytes"}
    tested = {(check["device"], check["what"]) for check in report["selftests"]}
    assert ("cpu", "transfer, python engine") in tested
    assert (("cpu", "transfer, native engine") in tested) == (extension().module is not None)
    assert all(check["problem"] == "" for check in report["selftests"])


def test_doctor_as_text_needs_no_extra() -> None:
    code = (
        "import sys; sys.modules.update(rich=None, sklearn=None); from torch_np_bridge.__main__ import main; "
        "sys.exit(main(['doctor']))"
    )
    done = run_python("-c", code)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"torch            {torch.__version__}" in done.stdout
    assert "transfer, python engine: passed" in done.stdout
    assert "RLIMIT_MEMLOCK" in done.stdout


def test_doctor_fails_where_a_selftest_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(selftest, "run_all", lambda info: [selftest.Check("cuda:0", "transfer", "wrong bytes")])
    assert main(["doctor"]) == 1
    assert "FAILED: wrong bytes" in capsys.readouterr().out


def test_selftest_sees_wrong_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(torch_np_bridge.Bridge):
        def to_numpy_async(self, tree: Any, **options: Any) -> torch_np_bridge.Transfer:
            return super().to_numpy_async({**tree, "strided": tree["strided"] + 1}, **options)

    monkeypatch.setattr(selftest, "Bridge", Wrong)
    problems = [check.problem for check in selftest.run_all(info_of("python", devices=()))]
    assert problems
    assert set(problems) == {"wrong values in: strided"}


def test_selftest_reports_what_was_raised() -> None:
    checks = selftest.run_all(info_of("python", devices=("meta",)))
    broken = [check for check in checks if check.device == "meta"]
    assert broken
    assert all("UnsupportedTensorError" in check.problem for check in broken)


def test_advice_names_what_is_missing_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "extension", lambda: Extension(None, None, "never built; run: pip install it"))
    lines = doctor.advise(info_of("python", devices=()), None, None)
    assert any("no native engine: never built; run: pip install it" in line for line in lines)
    assert any(line.startswith("no accelerator") for line in lines)


@pytest.mark.parametrize(
    ("toolkit", "words"), [(None, "install a CUDA toolkit"), ({"version": "12.9"}, "CUDA 12.9 is installed here")]
)
def test_advice_on_kernels(monkeypatch: pytest.MonkeyPatch, toolkit: dict[str, str] | None, words: str) -> None:
    monkeypatch.setattr(doctor, "extension", lambda: Extension(ModuleType("_C"), "2.13.0", ""))
    (line,) = doctor.advise(info_of("native", kernels="none: not built"), "580.10", toolkit)
    assert line.startswith("no CUDA kernels (not built)")
    assert words in line
    assert "TORCH_NP_BRIDGE_CUDA=1 pip install" in line


@pytest.mark.parametrize(
    ("driver", "kernels", "too_old"),
    [
        ("570.86.15", "sm_90 (CUDA 13.0)", True),
        ("580.65.06", "sm_90 (CUDA 13.0)", False),
        ("570.86.15", "sm_90 (CUDA 12.8)", False),
        (None, "sm_90 (CUDA 13.0)", False),
    ],
)
def test_advice_on_a_driver_that_is_too_old(
    monkeypatch: pytest.MonkeyPatch, driver: str | None, kernels: str, too_old: bool
) -> None:
    monkeypatch.setattr(doctor, "extension", lambda: Extension(ModuleType("_C"), "2.13.0", ""))
    monkeypatch.setattr(torch.version, "cuda", None)
    lines = doctor.advise(info_of("native", kernels=kernels), driver, None)
    assert [line.startswith("the driver is too old") and "580" in line for line in lines] == [True] * too_old


def test_doctor_tests_a_loaded_device_and_names_it_as_simulated(engine: str, accelerator: str) -> None:
    load = ["--load", "fake_device"] if accelerator == "fake" else []
    done = run_command("doctor", "--json", *load)
    report = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout
    assert (accelerator + ":0", f"transfer, {engine} engine") in [
        (check["device"], check["what"]) for check in report["selftests"]
    ]
    models = {device["model"] for device in report["devices"]}
    assert (models == {"simulated"}) == (accelerator == "fake")
