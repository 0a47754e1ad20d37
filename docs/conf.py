"""How Sphinx makes the pages of this folder: `make docs`. Nothing is taken from the network."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
# Its functions say of themselves what the native engine's do, and nothing has to be built.
os.environ["TORCH_NP_BRIDGE_ENGINE"] = "python"

from torch_np_bridge import __version__  # noqa: E402

project = "torch_np_bridge"
author = "torch_np_bridge contributors"
copyright = "torch_np_bridge contributors"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 3
nitpicky = True

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the words of the docstrings say more
autodoc_mock_imports = ["lightning", "pyarrow", "ray"]  # the pages need none of them
add_module_names = False

html_theme = "furo"
html_title = f"torch_np_bridge {__version__}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]

GIVEN = ["AsyncHostIterator", "Call", "Copies", "EngineInfo", "HostIterator", "Profile", "Stats", "Transfer", "Wait"]


def setup(app: Any) -> None:
    """What Sphinx calls."""
    app.connect("source-read", name_folders)
    app.connect("autodoc-process-signature", hide_constructors)


def name_folders(app: Any, page: str, source: list[str]) -> None:
    """A link to a folder of the repository, which is none of the pages, becomes its name."""

    def named(link: re.Match[str]) -> str:
        return f"{link[1]} (`{link[2]}`)" if (ROOT / link[2]).is_dir() else link[0]

    source[0] = re.sub(r"\[([^\]]+)\]\((?:\.\./)+([\w/.-]+)\)", named, source[0])


def hide_constructors(app: Any, kind: str, name: str, found: type, *_: Any) -> tuple[str, None] | None:
    """Of what is given by functions, and made by nobody else, a page shows no constructor."""
    return ("", None) if kind == "class" and found.__name__ in GIVEN else None
