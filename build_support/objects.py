"""Keeps objects honest where time stamps are not: a copied or unpacked source may be new and look old."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path


def discard_stale_objects(folder: Path, sources: Sequence[Path]) -> bool:
    """Empty ``folder`` if a source differs from what it was last time, but is not newer than the objects there.

    Whatever else changed is left to ninja, which compiles only that.

    Returns:
        Whether the folder was emptied.
    """
    record = folder / "sources.json"
    try:
        known = json.loads(record.read_text())
    except (FileNotFoundError, ValueError):  # none yet, or half of one: a build was ended there
        known = {}
    current = {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in sources}
    newest = max((path.stat().st_mtime_ns for path in folder.rglob("*.o")), default=0)
    changed = [path for path in sources if known.get(str(path)) != current[str(path)]]
    stale = any(path.stat().st_mtime_ns <= newest for path in changed)
    if stale:
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps(current, indent=1))
    return stale
