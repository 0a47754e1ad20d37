"""``python -m torch_np_bridge demo | doctor | bench``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Protocol

from .cli import bench, demo, doctor
from .cli.target import UsageError
from .errors import EngineUnavailableError


class Command(Protocol):
    """What a file of ``cli`` that is a command offers."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the options of the command."""

    def run(self, options: argparse.Namespace) -> int:
        """Run the command; its exit status."""


COMMANDS: dict[str, Command] = {"demo": demo, "doctor": doctor, "bench": bench}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit status: 0 where all is well, 1 where the command found something wrong, 2 where it could not run.
    """
    parser = argparse.ArgumentParser(prog="python -m torch_np_bridge")
    commands = parser.add_subparsers(dest="command", required=True, metavar="|".join(COMMANDS))
    for name, module in COMMANDS.items():
        summary = str(module.__doc__).splitlines()[0].removesuffix(".")
        module.add_arguments(commands.add_parser(name, help=summary, description=summary))
    options = parser.parse_args(arguments)
    try:
        return COMMANDS[options.command].run(options)
    except (UsageError, EngineUnavailableError) as error:
        print(f"torch_np_bridge {options.command}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
