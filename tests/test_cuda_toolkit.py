"""build_support.cuda_toolkit: which toolkit is taken, what it must have, and when a kernel is compiled again."""

import os
from pathlib import Path

import pytest

from build_support.cuda_toolkit import Toolkit, ToolkitError, compile_kernels, find_toolkit

ALL_CODES = "sm_75 sm_80 sm_90 sm_100"


def make_toolkit(home: Path, version: str = "13.0", codes: str = ALL_CODES, library: bool = True) -> Path:
    """A toolkit whose nvcc is a shell script that answers as nvcc does, and logs what it compiles."""
    (home / "bin").mkdir(parents=True)
    (home / "lib").mkdir()
    if library:
        (home / "lib" / "libcudart_static.a").write_bytes(b"")
    nvcc = home / "bin" / "nvcc"
    nvcc.write_text(f"""#!/bin/sh
case "$1" in
--dryrun) echo '#$ TOP={home}/bin/..' >&2; echo '#$ LIBRARIES=  "-L{home}/lib/stubs" "-L{home}/lib"' >&2 ;;
--version) echo 'Cuda compilation tools, release {version}, V{version}.88' ;;
--list-gpu-code) printf '%s\\n' {codes} ;;
*) echo "$@" >> {home}/log
   test -e {home}/refuse && {{ echo 'notes'; echo 'fill.cu(3): error: no such GNU' >&2; exit 2; }}
   for last; do :; done; : > "$last" ;;
esac
""")
    nvcc.chmod(0o755)
    return nvcc


def compilations(home: Path) -> int:
    return len((home / "log").read_text().splitlines())


def test_a_wrapper_on_the_path_leads_to_the_toolkit_behind_it(tmp_path: Path) -> None:
    nvcc = make_toolkit(tmp_path / "cuda")
    wrapper = tmp_path / "bin" / "nvcc"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nexec {nvcc} "$@"\n')
    wrapper.chmod(0o755)
    toolkit = find_toolkit({"PATH": str(wrapper.parent)})
    assert toolkit.nvcc == nvcc
    assert toolkit.found_by == "nvcc on the PATH"
    assert toolkit.library_folder == tmp_path / "cuda" / "lib"
    assert toolkit.version == "13.0"


def test_cuda_home_goes_before_the_path(tmp_path: Path) -> None:
    on_path, named = make_toolkit(tmp_path / "a"), make_toolkit(tmp_path / "b")
    toolkit = find_toolkit({"PATH": str(on_path.parent), "CUDA_HOME": str(tmp_path / "b")})
    assert (toolkit.nvcc, toolkit.found_by) == (named, "CUDA_HOME")


def test_architectures_are_those_that_the_toolkit_knows(tmp_path: Path) -> None:
    make_toolkit(tmp_path / "old", version="12.4", codes="sm_80 sm_90")
    make_toolkit(tmp_path / "new")
    old, new = (find_toolkit({"CUDA_HOME": str(tmp_path / name)}) for name in ("old", "new"))
    assert old.archs == ("sm_80", "sm_90", "compute_90")
    assert new.archs == ("sm_80", "sm_90", "sm_100", "compute_90")


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    make_toolkit(tmp_path / "bare", library=False)
    make_toolkit(tmp_path / "old", version="11.4", codes="sm_80")
    (tmp_path / "nothing").mkdir()
    for environ, sentence in [
        ({"PATH": str(tmp_path / "nothing")}, "CUDA_HOME is not set and no nvcc is on the PATH"),
        ({"CUDA_HOME": str(tmp_path / "nothing")}, "has no bin/nvcc"),
        ({"CUDA_HOME": str(tmp_path / "bare")}, r"has no libcudart_static\.a"),
        ({"CUDA_HOME": str(tmp_path / "old")}, r"CUDA 11\.4 .* is too old: expected 11\.8 or newer"),
    ]:
        with pytest.raises(ToolkitError, match=sentence):
            find_toolkit(environ)


def test_a_kernel_is_compiled_again_for_another_command_or_a_newer_header(tmp_path: Path) -> None:
    home, objects = tmp_path / "cuda", tmp_path / "objects"
    make_toolkit(home)
    toolkit = find_toolkit({"CUDA_HOME": str(home)})
    source, header = tmp_path / "fill.cu", tmp_path / "fill.h"
    for path in (source, header):
        path.write_text("")
        os.utime(path, (1, 1))
    assert compile_kernels(toolkit, [source], [header], objects) == [objects / "fill.o"]
    compile_kernels(toolkit, [source], [header], objects)
    assert compilations(home) == 1
    other = Toolkit(toolkit.nvcc, toolkit.found_by, toolkit.version, ("sm_80",), toolkit.library_folder)
    compile_kernels(other, [source], [header], objects)
    assert compilations(home) == 2
    newer = (objects / "fill.o").stat().st_mtime + 1
    os.utime(header, (newer, newer))
    compile_kernels(other, [source], [header], objects)
    assert compilations(home) == 3


def test_a_refusal_is_one_line_and_leaves_no_object(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    home, source = tmp_path / "cuda", tmp_path / "fill.cu"
    make_toolkit(home)
    toolkit = find_toolkit({"CUDA_HOME": str(home)})
    source.write_text("")
    (home / "refuse").touch()
    with pytest.raises(
        ToolkitError, match=r"nvcc refuses fill\.cu, status 2: fill\.cu\(3\): error: no such GNU$"
    ) as caught:
        compile_kernels(toolkit, [source], [], tmp_path / "objects")
    assert "\n" not in str(caught.value)
    assert "notes" in capfd.readouterr().out
    (home / "refuse").unlink()
    assert compile_kernels(toolkit, [source], [], tmp_path / "objects")[0].exists()
