"""The ratios of reports as bars, in SVG: made here, so that the same figures give the same bytes everywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from .results import NOISE, Report

LABELS, CHART, NUMBERS, ROW, TITLE = 470, 360, 90, 22, 34
WIDTH = LABELS + CHART + NUMBERS
MOST = 2.0  # the ratio that fills the chart; longer bars are cut, and their number says how long they are
FASTER, SLOWER, INK, FAINT = "#2a7f62", "#c0504d", "#1f2328", "#8c959f"
NAMES = {
    "accelerator": "on {device_name}, NVIDIA driver {driver}",
    "cpu": "on the CPU",
    "simulated": "the host's side, on a simulated accelerator: no figure of a GPU",
}


def draw(reports: Sequence[Report]) -> str:
    """The picture: a bar for each measurement and other way, the worst of its cases."""
    parts: list[str] = []
    top = 0
    for title, rows in sections(reports).items():
        parts.append(_text(8, top + 22, title, INK, weight="bold"))
        top += TITLE
        for label, value in rows.items():
            parts += _bar(top, label, value)
            top += ROW
    one = LABELS + CHART / MOST
    parts.append(f'<line x1="{one:g}" y1="0" x2="{one:g}" y2="{top}" stroke="{FAINT}" stroke-dasharray="3 3"/>')
    measured = sorted({f"torch {it.machine['versions']['torch']}, {it.machine['date']}" for it in reports})
    for line in ("time of the bridge / time of the other way: left of the line it is faster", "; ".join(measured)):
        top += ROW
        parts.append(_text(8, top, line, FAINT))
    top += ROW
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top}" viewBox="0 0 {WIDTH} {top}" '
        'font-family="sans-serif" font-size="12">'
    )
    return "\n".join([head, f'<rect width="{WIDTH}" height="{top}" fill="#ffffff"/>', *parts, "</svg>"]) + "\n"


def sections(reports: Sequence[Report]) -> dict[str, dict[str, float]]:
    """Of each kind of device its ratios; figures of different kinds never stand in one section."""
    found: dict[str, dict[str, float]] = {}
    for kind, name in NAMES.items():
        for report in reports:
            known = {"device_name": report.machine["device_name"] or report.machine["device"]}
            title = name.format(**{**report.machine, **known})
            for entry in report.entries:
                for figure in entry.measured.figures:
                    if report.kind(entry) == kind and figure.beside is not None:
                        rows = found.setdefault(title, {})
                        label = f"{entry.name}: beside {figure.beside}"
                        rows[label] = max(rows.get(label, 0.0), figure.value)
    return found


def _bar(top: int, label: str, value: float) -> Iterator[str]:
    length = min(value, MOST) / MOST * CHART
    colour = FASTER if value <= 1 + NOISE else SLOWER
    yield _text(LABELS - 8, top + 15, label, INK, anchor="end")
    yield f'<rect x="{LABELS}" y="{top + 3}" width="{length:.1f}" height="{ROW - 6}" fill="{colour}"/>'
    yield _text(LABELS + CHART + 8, top + 15, f"{value:.3f} ×", INK)


def _text(x: float, y: float, text: str, colour: str, *, anchor: str = "start", weight: str = "normal") -> str:
    return f'<text x="{x}" y="{y}" fill="{colour}" text-anchor="{anchor}" font-weight="{weight}">{escape(text)}</text>'
