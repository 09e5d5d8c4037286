"""Configuration of Sphinx: `make docs` builds the pages into docs/_build."""

import matplotlib

import torchblob

matplotlib.use("agg")

project = "torchblob"
author = copyright = "the torchblob developers"
release = version = torchblob.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_gallery.gen_gallery",
    "numpydoc",
]
autodoc_typehints = "none"  # the docstrings have them
default_role = "code"  # single backticks, as in the docstrings
exclude_patterns = ["_build"]
html_theme = "pydata_sphinx_theme"

# A class's attributes are described in its docstring, its methods in their own.
numpydoc_class_members_toctree = False
numpydoc_show_class_members = True
numpydoc_show_inherited_class_members = False
numpydoc_attributes_as_param_list = True

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "examples",
    "abort_on_example_error": True,
    "show_memory": False,
}
