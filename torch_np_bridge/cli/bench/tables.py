"""What `bench` shows on the terminal. Needs rich, so it is imported only where something is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from .comparison import Comparison
from .results import NOISE, Entry, Figure, Report, about, text_of

NARROWEST, FILE = 110, 150  # columns that a table of figures needs, and has where nobody sees a terminal


def _console() -> Console:
    console = Console(highlight=False, soft_wrap=True, markup=False)
    console.width = max(console.width, NARROWEST if console.is_terminal else FILE)
    return console


@contextmanager
def progress(total: int) -> Iterator[Callable[[str], None]]:
    """Cases done of so many, and what is being measured.

    Drawn when it is told something and never by a thread of its own, which would take the GIL in the midst of a call.
    """
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=_console(), auto_refresh=False, transient=True) as bar:
        job = bar.add_task("", total=total)
        seen: list[str] = []

        def say(text: str) -> None:
            name = text.partition(":")[0]
            if name not in seen:
                seen.append(name)
            bar.update(job, description=text, completed=len(seen) - 1, refresh=True)

        yield say


def show(report: Report) -> None:
    """Ratios first, then times; the bars; where the bridge loses; the machine."""
    console = _console()
    for entry in report.entries:
        console.print(_table(entry))
        for bar in entry.measured.bars:
            verdict = "not judged" if report.quick else "met" if bar.met else "MISSED"
            console.print(f"{bar.name}: {verdict}: {bar.wording()}")
        for line in entry.measured.notes:
            console.print(line)
        console.print()
    losses = report.losses()
    console.print(f"Slower than another way by more than {NOISE:.0%}: {'' if losses else 'nowhere'}".rstrip())
    for line in losses:
        console.print(f"  {line}")
    console.print()
    for reason in dict.fromkeys(report.skipped.values()):
        names = ", ".join(name for name, its in report.skipped.items() if its == reason)
        console.print(f"Not measured: {names}: {reason}")
    for name, reason in report.failed.items():
        console.print(f"FAILED: {name}: {reason}")
    for name, reason in report.not_compared.items():
        console.print(f"Not compared with {name}: {reason}")
    for line in about(report):
        console.print(line)


def _table(entry: Entry) -> Table:
    table = Table(title=f"{entry.name}: {entry.title}", title_justify="left")
    for column in ("case", "figure"):
        table.add_column(column)
    for column in ("median", "interquartile range", "99th percentile"):
        table.add_column(column, justify="right")
    table.add_column("")
    for figure in sorted(entry.measured.figures, key=lambda figure: figure.unit != "×"):
        table.add_row(*_cells(figure))
    return table


def _cells(figure: Figure) -> tuple[str, ...]:
    spread, p99 = ("" if value is None else text_of(value, figure.unit) for value in (figure.spread, figure.p99))
    return figure.case, figure.name, text_of(figure.value, figure.unit), spread, p99, "slower" if figure.loss else ""


def show_comparison(found: Comparison) -> None:
    """Each ratio in both reports; what is worse; what cannot be compared."""
    console = _console()
    table = Table(title="The second file beside the first", title_justify="left")
    for column in ("measurement", "case", "figure"):
        table.add_column(column)
    for column in ("before", "after", "after / before", "its spread"):
        table.add_column(column, justify="right")
    table.add_column("")
    for row in found.rows:
        values = (text_of(value, row.unit) for value in (row.before, row.after))
        verdict = "REGRESSION" if row.regression else "better" if row.better else ""
        table.add_row(row.entry, row.case, row.name, *values, f"{row.change:.3f}", f"{row.spread:.3f}", verdict)
    console.print(table)
    for line in found.remarks:
        console.print(line)
    console.print(f"Regressions: {len(found.regressions) or 'none'}")
    for row in found.regressions:
        console.print(f"  {row.entry}, {row.case}: {row.name}: {row.change:.3f} × what it was, spread {row.spread:.3f}")
