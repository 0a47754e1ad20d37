"""`bench`: what its command line takes, every case on every device, and the file that it writes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import run_command, run_python, simulated_module

from torch_np_bridge.__main__ import main
from torch_np_bridge.cli.bench import baselines, command, others
from torch_np_bridge.cli.bench.cases import n10_cpu_view, registry, single, trees
from torch_np_bridge.cli.bench.controls import controls_of
from torch_np_bridge.cli.bench.results import Figure, Measured, Report, can_be_written
from torch_np_bridge.cli.bench.setting import Setting
from torch_np_bridge.cli.bench.timing import QUICK
from torch_np_bridge.cli.target import Target

CPU = Target(torch.device("cpu"), None)
NAMES = [f"N{number}" for number in range(1, 14)]
MACHINE = {
    "date", "cpu", "cpus", "load_average", "load_average_after", "real_time_priority", "clocks", "system", "device",
    "device_name", "simulated", "driver", "engine", "engine_reason", "kernels", "pinned_limit_bytes", "versions",
    "commit",
}  # fmt: skip


def test_the_cases_are_those_of_the_page() -> None:
    assert list(registry.ALL) == NAMES


def test_on_the_cpu_it_measures_what_needs_no_accelerator(engine: str, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    arguments = ["--quick", "--device", "cpu", "--json", str(file), "--plot", str(tmp_path / "plot.svg")]
    done = run_command("bench", *arguments, TORCH_NP_BRIDGE_ENGINE=engine)
    assert done.returncode == 0, done.stdout + done.stderr
    [line] = [line for line in done.stdout.splitlines() if line.startswith("Not measured:")]
    assert line == (
        f"Not measured: {', '.join(name for name in NAMES if name != 'N10')}: an accelerator is needed; name one by "
        "--device, with --load where a module registers it"
    )
    assert "they say nothing" in done.stdout
    assert "not judged" in done.stdout
    assert "<svg" in (tmp_path / "plot.svg").read_text()
    report = Report.read(file)
    assert [entry.name for entry in report.entries] == ["N10"]
    assert report.machine["engine"] == engine


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a quick run on the accelerator says, and the file that it writes."""
    from conftest import ACCELERATOR, require

    require("native")
    require(ACCELERATOR)
    file = tmp_path_factory.mktemp("bench") / "report.json"
    load = ["--load", "fake_device"] if ACCELERATOR == "fake" else []
    done = run_command("bench", "--quick", "--device", ACCELERATOR, *load, "--json", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, file


def test_on_an_accelerator_it_measures_all(written: tuple[str, Path], accelerator: str) -> None:
    said, file = written
    report = Report.read(file)
    assert [entry.name for entry in report.entries] == NAMES
    assert report.skipped == report.failed == {}
    kinds = {entry.name: report.kind(entry) for entry in report.entries}
    assert kinds.pop("N10") == "cpu"
    assert set(kinds.values()) == {"simulated" if accelerator == "fake" else "accelerator"}
    assert ("nothing here is a figure of a GPU" in said) is (accelerator == "fake")
    for other in (baselines.CPU_NUMPY, baselines.ONE_LINER, baselines.PINNED_LOOP):
        assert any(figure.beside == other for figure in report.entries[0].measured.figures)


def test_the_file_has_all_that_a_figure_needs(written: tuple[str, Path]) -> None:
    whole = json.loads(written[1].read_text())
    assert whole.keys() == {"format", "quick", "machine", "entries", "skipped", "failed", "not_compared"}
    assert whole["machine"].keys() == MACHINE
    assert whole["machine"]["clocks"].keys() == {"cpu_mhz", "cpu_governor", "gpu"}
    assert {"torch", "python", "numpy"} <= whole["machine"]["versions"].keys()
    for entry in whole["entries"]:
        assert entry.keys() == {"name", "title", "on", "figures", "bars", "notes"}
        assert entry["figures"]
        for figure in entry["figures"]:
            assert figure.keys() == {"case", "name", "value", "unit", "spread", "p99", "beside"}
            assert figure["value"] > 0 or figure["unit"] in ("", "%", "bytes")
        for bar in entry["bars"]:
            assert bar.keys() == {"name", "value", "rule", "limit", "unit", "spread", "met"}
    again = written[1].with_name("again.json")
    Report.read(written[1]).write(again)
    assert json.loads(again.read_text()) == whole


def test_only_what_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--quick", "--device", "cpu", "--only", "n10", "N1"]) == 0
    said = capsys.readouterr().out
    assert "N10: What a call costs" in said
    assert "Not measured: N1: an accelerator is needed" in said
    assert "N2" not in said


def test_an_unknown_case_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["bench", "--only", "N14"])
    assert "invalid choice: 'N14'" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--json", "--plot"])
@pytest.mark.parametrize("name", ["none/file", "folder"])
def test_a_file_that_cannot_be_written_is_refused(
    option: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is measured, which takes minutes."""
    (tmp_path / "folder").mkdir()
    assert main(["bench", "--quick", option, str(tmp_path / name)]) == 2
    assert f"{option}: expected a file that can be written, in a folder that exists" in capsys.readouterr().err


def test_a_file_that_others_keep_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "report.json"
    assert can_be_written(file)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert not can_be_written(file)
    file.touch()
    assert not can_be_written(file)


def test_without_rich_it_says_what_to_install() -> None:
    run_main = "from torch_np_bridge.__main__ import main; sys.exit(main(['bench', '--quick']))"
    done = run_python("-c", f"import sys; sys.modules['rich'] = None; {run_main}")
    assert done.returncode == 2
    assert "expected rich for the tables, got none; run: pip install 'torch-np-bridge[bench]'" in done.stderr


def test_a_case_without_its_engine_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from commands import info_of

    monkeypatch.setattr(registry, "engine_info", lambda: info_of("python", reason="not built"))
    accelerator = Target(torch.device("meta"), None)
    assert registry.ALL["N7"].missing(accelerator) == "the native engine is needed: not built"
    assert registry.ALL["N1"].missing(accelerator) is None


def test_wrong_arrays_of_another_way_end_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(n10_cpu_view, "to_numpy", lambda tensor: tensor.numpy() + 1)
    assert main(["bench", "--quick", "--device", "cpu", "--only", "N10"]) == 1
    assert (
        "FAILED: N10: DifferentResultsError: expected the arrays of the tensors, got others by to_numpy"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize("name", ["N1", "N5", "N11"])
def test_a_hand_made_way_that_does_not_wait_ends_it(
    name: str, accelerator: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The baselines are judged as the bridge is: what most people forget by hand."""

    def early(way: baselines.SideStream, tensors: list[torch.Tensor]) -> Any:
        return [np.zeros(tuple(tensor.shape), tensor.cpu().numpy().dtype) for tensor in tensors]

    monkeypatch.setattr(baselines.SideStream, "__call__", early)
    assert main(["bench", "--quick", "--device", accelerator, "--only", name]) == 1
    assert f"got others by {baselines.ONE_LINER}" in capsys.readouterr().out


def test_a_case_that_fails_does_not_take_the_others_with_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def fail(setting: Setting) -> Measured:
        raise torch.OutOfMemoryError("no memory left\nfor 1 GiB")

    monkeypatch.setitem(registry.ALL, "N9", registry.Case("N9", "A title.", fail, "cpu"))
    file = tmp_path / "report.json"
    assert main(["bench", "--quick", "--device", "cpu", "--only", "N9", "N10", "--json", str(file)]) == 1
    output = capsys.readouterr()
    assert "FAILED: N9: OutOfMemoryError: no memory left\n" in output.out
    assert "raise torch.OutOfMemoryError" in output.err
    report = Report.read(file)
    assert [entry.name for entry in report.entries] == ["N10"]
    assert report.failed.keys() == {"N9"}


def test_where_the_bridge_loses_the_table_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = [
        Figure("a case", "time, mine / slow", 0.5, "×", 0.1, beside="slow"),
        Figure("a case", "time, mine / noise", 1.01, "×", 0.1, beside="noise"),
        Figure("a case", "time, mine / fast", 1.5, "×", 0.1, beside="fast"),
        Figure("a case", "page-locked / live", 1.8, "×"),
    ]
    case = registry.Case("N10", "A title.", lambda setting: Measured(figures), "cpu")
    monkeypatch.setitem(registry.ALL, "N10", case)
    assert main(["bench", "--device", "cpu", "--only", "N10"]) == 0
    said = capsys.readouterr().out
    assert [line.count("slower") for line in said.splitlines() if "a case" in line and "│" in line] == [0, 0, 1, 0]
    assert "Slower than another way by more than 2%:\n  N10, a case: 1.50 × fast\n" in said


def test_other_libraries_are_left_out_where_they_do_not_wait() -> None:
    absent = others.absences(torch.device("cpu"))
    assert absent == dict.fromkeys(("TensorDict", "CuPy"), "copies from CUDA, not from cpu")
    assert others.ways({"a": torch.ones(1)}) == {}
    assert others.absences(torch.device("cuda")).get("CuPy", "cannot be imported").startswith("cannot be imported")


def test_tensordict_gives_the_arrays() -> None:
    tensordict: Any = pytest.importorskip("tensordict", reason="expected tensordict, got none")
    tree = {"a": torch.arange(3.0), "b": torch.arange(4).view(2, 2)}
    for way in others.of_tensordict(tensordict, tree).values():
        got = way()
        assert all((got[name] == tree[name].numpy()).all() for name in tree)


def test_controls_come_with_the_module_of_a_device() -> None:
    module = simulated_module()
    mine = object()
    module.bench_controls = lambda: mine  # type: ignore[attr-defined]
    assert controls_of(Target(torch.device("meta"), module)) is mine
    assert controls_of(Target(torch.device("cpu"), module)) is not mine


def test_a_progress_that_draws_never_measures(capsys: pytest.CaptureFixture[str]) -> None:
    """What is said comes before each case, in order."""
    said: list[str] = []

    class Progress:
        def __enter__(self) -> Any:
            return said.append

        def __exit__(self, *_: object) -> None:
            said.append("end")

    command.measure(CPU, [registry.ALL["N10"]], True, lambda total: Progress())
    assert said == ["N10: 8 float32 on the CPU", "end"]


def test_all_ways_to_a_tree_and_to_a_tensor_give_the_arrays(accelerator: str) -> None:
    tree = trees.make_tree(3, (4, 5), torch.device(accelerator, 0))
    everywhere = {baselines.BRIDGE, baselines.CPU_NUMPY, baselines.ONE_LINER, baselines.PINNED_LOOP}
    assert trees.time_tree(tree, QUICK).keys() >= everywhere
    assert single.time_one(single.make_tensor(64, torch.device(accelerator, 0)), QUICK).keys() >= everywhere


def test_copies_in_cpp_are_a_way_where_kernels_run(cuda_entries: Any, fake: Any) -> None:
    seconds = single.time_one(single.make_tensor(4096, torch.device("fake", 0)), QUICK)
    assert len(seconds[baselines.BARE_CPP]) == QUICK.least


def test_hardware_is_judged_by_what_is_meant_of_it(
    accelerator: str, native: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On hardware each case judges; on a simulated accelerator only what is the host's own."""
    module = __import__("fake_device") if accelerator == "fake" else None
    target = Target(torch.device(accelerator, 0), module)
    setting = Setting(target, controls_of(target), True)
    judged = {}
    for hardware in (False, True):
        monkeypatch.setattr(Setting, "hardware", hardware)
        for name in ("N1", "N2", "N3", "N4", "N6", "N11", "N12"):
            judged[name, hardware] = len(registry.ALL[name].measure(setting).bars)
    assert all((count > 0) is hardware for (_, hardware), count in judged.items()), judged
