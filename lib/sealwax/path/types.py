"""The types of paths."""

from __future__ import annotations

import os
import pathlib
from typing import TypeAlias

Path = pathlib.Path
"""The class of the paths that are handed out, unless ``ctx.file.path_class`` names another."""

PathLike: TypeAlias = "os.PathLike[str] | str"
"""What can be passed as a path."""
