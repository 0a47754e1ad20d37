"""How Sphinx makes the pages of this folder: `make docs`. Nothing is taken from the network."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
# What the engine of this machine is does not change what is said of it.
os.environ.pop("TORCH_NP_BRIDGE_ENGINE", None)

from torch_np_bridge import __version__  # noqa: E402

project = "torch_np_bridge"
author = "torch_np_bridge contributors"
copyright = "torch_np_bridge contributors"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["requirements*"]

myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
add_module_names = False

html_theme = "furo"
html_title = f"torch_np_bridge {__version__}"
