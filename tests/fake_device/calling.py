"""Ways to call something: here or on another thread, for what it raises, and with a stream as the current one."""

import threading
from collections.abc import Callable
from typing import TypeVar

import torch

Runner = Callable[[Callable[[], object]], BaseException | None]
Result = TypeVar("Result")


def on(stream: torch.Stream, work: Callable[[], Result]) -> Result:
    """Runs something with a stream as the current one."""
    with stream:
        return work()


def elsewhere(work: Callable[[], object]) -> BaseException | None:
    """Runs something on another thread; gives what it raised."""
    errors: list[BaseException | None] = [None]

    def run() -> None:
        try:
            work()
        except RuntimeError as error:
            errors[0] = error

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return errors[0]


def here(work: Callable[[], object]) -> BaseException | None:
    """Runs something; gives what it raised."""
    try:
        work()
    except RuntimeError as error:
        return error
    return None
