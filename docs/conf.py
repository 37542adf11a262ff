"""Sphinx builds the site from the pages here, the docstrings, and what `generated.py` makes: `make docs`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from deeplight_jax import __version__

project, author = "deeplight_jax", "the deeplight_jax developers"
project_copyright = "the deeplight_jax developers, Apache-2.0"
release = version = __version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "myst_nb", "generated"]
exclude_patterns = ["**.ipynb_checkpoints"]

nitpicky = True
nitpick_ignore_regex = [("py:.*", ".*")]  # annotations name types of JAX and Flax, whose pages are elsewhere
suppress_warnings = ["myst.header"]  # a generated page begins below its own title

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
nb_execution_mode = "force"  # the notebooks are kept without outputs
nb_execution_raise_on_error = True
nb_execution_in_temp = True
nb_execution_timeout = 300

default_role = "literal"
autodoc_inherit_docstrings = False  # those of Flax have a markup of their own
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"deeplight_jax {release}"
