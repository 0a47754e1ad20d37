"""build_support.objects: which objects may be linked again."""

import os
from pathlib import Path

from build_support.objects import discard_stale_objects


def make(path: Path, text: str, seconds: int) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    os.utime(path, (seconds, seconds))
    return path


def test_objects_go_if_a_source_changed_and_looks_old(tmp_path: Path) -> None:
    folder = tmp_path / "build"
    source = make(tmp_path / "csrc" / "a.cpp", "one", seconds=1)
    assert not discard_stale_objects(folder, [source])
    built = make(folder / "a.o", "object of one", seconds=5)
    assert not discard_stale_objects(folder, [source])
    make(source, "two", seconds=3)
    assert discard_stale_objects(folder, [source])
    assert not built.exists()


def test_objects_stay_if_time_tells_what_changed(tmp_path: Path) -> None:
    folder = tmp_path / "build"
    source = make(tmp_path / "csrc" / "a.cpp", "one", seconds=1)
    discard_stale_objects(folder, [source])
    built = make(folder / "a.o", "object of one", seconds=5)
    make(source, "two", seconds=7)
    assert not discard_stale_objects(folder, [source])
    assert built.exists()


def test_objects_of_an_unknown_past_go(tmp_path: Path) -> None:
    source = make(tmp_path / "csrc" / "a.cpp", "one", seconds=1)
    built = make(tmp_path / "build" / "a.o", "object of what?", seconds=5)
    assert discard_stale_objects(tmp_path / "build", [source])
    assert not built.exists()
