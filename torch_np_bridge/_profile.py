"""``Profile``: what :func:`torch_np_bridge.profile` gives."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from ._recording import Recording
from .engine import Engine

# What reads a recording is imported by who has one: the import of the package would take a sixth longer.
if TYPE_CHECKING:
    from ._timeline import Call


class Profile:
    """Where the time of the conversions of a Bridge goes, from entering the context to leaving it.

    It sees the calls of all threads. What is in flight when the context is left goes on being followed, so its
    properties may say more when they are asked again. docs/profile.md says what is measured, and how.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._recording: Recording | None = None

    def __enter__(self) -> Profile:
        if self._recording is not None:
            raise RuntimeError("expected a profile that was not used yet, got one that was; call profile() again")
        self._recording = self._engine.start_profile()
        if self._recording is None:
            raise RuntimeError(
                "expected one profile of a Bridge at a time, got another while one is active; end that one first, or "
                "look at it: it sees the calls of all threads"
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._engine.stop_profile()

    @property
    def calls(self) -> list[Call]:
        """The calls whose copies have ended, in the order in which they were submitted."""
        return self._read()[0]

    @property
    def in_flight(self) -> int:
        """How many calls have copies that have not ended; what else is said here leaves them out."""
        return self._read()[1]

    @property
    def hidden(self) -> float:
        """The share of the time of all copies that cost nothing, 0 to 1; nan where nothing was copied.

        A moment of a copy is hidden where its device was still computing for a later transfer, that is, where an event
        behind what computes that one's tensors was pending; or where no thread was waiting for a transfer.
        """
        from ._timeline import hidden

        return hidden(self.calls)

    def summary(self) -> str:
        """A text: what was copied, how fast, how much of it was hidden, and what was waited for.

        With colours where standard output is a terminal and rich is installed.
        """
        from ._profile_text import summary

        return summary(*self._read())

    def trace(self, path: str | os.PathLike[str]) -> None:
        """Write the timeline as Chrome's trace events, for https://ui.perfetto.dev or chrome://tracing.

        Args:
            path: the file, which is overwritten. Times in it are microseconds since the profile began.
        """
        from ._profile_views import trace

        Path(path).write_text(trace(self.calls))

    def plot(self, path: str | os.PathLike[str], *, title: str = "") -> None:
        """Write a picture of the timeline: what the device computes, what is copied, and when threads wait.

        Args:
            path: the file, which is overwritten; its name says the format, such as ``.png`` or ``.svg``.
            title: what stands above it.

        Raises:
            ImportError: there is no matplotlib.
        """
        from ._profile_views import plot

        plot(self.calls, path, title)

    def _read(self) -> tuple[list[Call], int]:
        from ._timeline import read

        return ([], 0) if self._recording is None else read(self._recording)


Profile.__module__ = "torch_np_bridge"
