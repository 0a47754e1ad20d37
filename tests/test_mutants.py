"""The table of guards fits the sources, and the runner tells a guard that is noticed from one that is not."""

from pathlib import Path

import pytest
from mutants import ROOT, Guard, Laboratory, MutantError, judge, read_guards, try_guards

GUARDS = read_guards()


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_each_snippet_is_found_once_and_its_tests_exist(guard: Guard) -> None:
    assert guard.mutate(ROOT) != (ROOT / guard.file).read_text()
    assert 1 <= guard.contract <= 14
    assert guard.tests
    for test in guard.tests:
        file, _, name = test.partition("::")
        assert (ROOT / file).exists(), test
        assert not name or f"def {name.partition('[')[0]}(" in (ROOT / file).read_text(), test


def test_names_are_unique() -> None:
    assert len({guard.name for guard in GUARDS}) == len(GUARDS)


@pytest.fixture
def laboratory(tmp_path: Path) -> Laboratory:
    repository = tmp_path / "repository"
    (repository / "tests").mkdir(parents=True)
    (repository / "guarded.py").write_text("def root(x):\n    if x < 0:\n        x = 0\n    return x**0.5\n")
    (repository / "tests" / "test_root.py").write_text(
        "import guarded\n\n\ndef test_negative():\n    assert guarded.root(-1) == 0\n\n\n"
        "def test_positive():\n    assert guarded.root(4) == 2\n"
    )
    return Laboratory(repository, tmp_path / "copy", build=None)


def guard(test: str, old: str = "x = 0") -> Guard:
    return Guard(name="no-root-of-a-negative", contract=1, file="guarded.py", old=old, new="pass", tests=[test])


def test_a_guard_is_noticed_by_the_test_that_fails_without_it(laboratory: Laboratory) -> None:
    said: list[str] = []
    assert try_guards(laboratory, [guard("tests/test_root.py")], said.append) == []
    assert "FAILED tests/test_root.py::test_negative" in said[-1]
    assert (laboratory.folder / "guarded.py").read_text() == (laboratory.root / "guarded.py").read_text()


def test_a_guard_whose_tests_pass_without_it_is_reported(laboratory: Laboratory) -> None:
    said: list[str] = []
    lonely = guard("tests/test_root.py::test_positive")
    assert try_guards(laboratory, [lonely], said.append) == [lonely]
    assert said[-1].startswith("UNNOTICED  no-root-of-a-negative")


def test_tests_that_fail_anyway_prove_nothing(laboratory: Laboratory) -> None:
    (laboratory.root / "guarded.py").write_text("def root(x):\n    x = 0\n    return 1\n")
    with pytest.raises(MutantError, match="fail without any mutation"):
        try_guards(laboratory, [guard("tests/test_root.py")], lambda line: None)


@pytest.mark.parametrize("old", ["x = 1", "x"])
def test_a_snippet_that_is_not_there_once_is_refused(laboratory: Laboratory, old: str) -> None:
    with pytest.raises(MutantError, match="expected the snippet once"):
        try_guards(laboratory, [guard("tests/test_root.py", old)], lambda line: None)


def test_a_run_without_a_tests_answer_is_no_notice() -> None:
    with pytest.raises(MutantError, match="status 4"):
        judge(4, "ERROR: not found")


def test_a_crash_and_a_hang_are_notices_that_name_the_test() -> None:
    output = "tests/test_a.py::test_one PASSED\ntests/test_a.py::test_two "
    assert judge(-11, output).by == "CRASH (status -11) in or after tests/test_a.py::test_two"
    assert judge(None, output).by == "TIMEOUT in or after tests/test_a.py::test_two"
