"""Settings that come from the environment: one row each, unknown values raise."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal, NamedTuple, cast, get_args

from .memory_limit import parse_bytes

EngineChoice = Literal["auto", "native", "python"]


class Settings(NamedTuple):
    """What the environment asked for; where it says no limit, ``None``: to find the default takes reading files.

    ============================= ===================================== ======================================
    variable                      values                                default
    ============================= ===================================== ======================================
    TORCH_NP_BRIDGE_ENGINE        auto, native, python                  auto
    TORCH_NP_BRIDGE_PINNED_LIMIT  bytes: 4GiB, 512MB, 1000000           a quarter of the memory, 4 GiB at most
    TORCH_NP_BRIDGE_DEBUG         0, 1                                  0; see docs/debug.md
    ============================= ===================================== ======================================
    """

    engine: EngineChoice
    pinned_limit: int | None
    debug: bool


def engine_choice(value: object, source: str) -> EngineChoice:
    """``value`` as an engine choice; ``ValueError`` naming ``source`` where it is none."""
    if not isinstance(value, str) or value not in get_args(EngineChoice):
        raise ValueError(f"{source}: expected one of {', '.join(get_args(EngineChoice))}, got {value!r}")
    return cast(EngineChoice, value)


def read_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings that ``environ`` asks for."""
    engine = engine_choice(environ.get("TORCH_NP_BRIDGE_ENGINE", "auto"), "TORCH_NP_BRIDGE_ENGINE")
    limit = environ.get("TORCH_NP_BRIDGE_PINNED_LIMIT")
    pinned_limit = None if limit is None else parse_bytes(limit, "TORCH_NP_BRIDGE_PINNED_LIMIT")
    debug = environ.get("TORCH_NP_BRIDGE_DEBUG", "0")
    if debug not in ("0", "1"):
        raise ValueError(f"TORCH_NP_BRIDGE_DEBUG: expected 0 or 1, got {debug!r}")
    return Settings(engine, pinned_limit, debug == "1")
