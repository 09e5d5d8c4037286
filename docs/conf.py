"""Configuration of Sphinx: `make docs` builds the pages into docs/_build."""

import matplotlib
from sphinx_gallery.sorting import ExplicitOrder

import torchblob

matplotlib.use("agg")

project = "torchblob"
author = copyright = "the torchblob developers"
release = version = torchblob.__version__

extensions = [
    "matplotlib.sphinxext.plot_directive",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx_gallery.gen_gallery",
    "numpydoc",
]
autodoc_typehints = "none"  # the docstrings have them
default_role = "code"  # single backticks, as in the docstrings
exclude_patterns = ["_build"]

# A name of this package that leads nowhere is an error. Names of others can be looked
# up only in their inventories, which a build without a network does not have:
# `sphinx-build -t online` does.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(dask|joblib|matplotlib|numpy|skorch|sklearn|torch|warnings)\b.*")
]
if tags.has("online"):  # noqa: F821 (Sphinx defines it)
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "joblib": ("https://joblib.readthedocs.io/en/stable", None),
        "matplotlib": ("https://matplotlib.org/stable", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "python": ("https://docs.python.org/3", None),
        "skorch": ("https://skorch.readthedocs.io/en/stable", None),
        "sklearn": ("https://scikit-learn.org/stable", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
    }

html_title = "torchblob"
html_theme = "pydata_sphinx_theme"
html_theme_options = {
    "header_links_before_dropdown": 8,
    "secondary_sidebar_items": ["page-toc"],
    "show_prev_next": False,
}
html_sidebars = {"**": []}
html_show_sourcelink = False

# A class's attributes are described in its docstring, its methods in their own.
numpydoc_class_members_toctree = False
numpydoc_show_class_members = False
numpydoc_attributes_as_param_list = True

plot_formats = ["svg"]
plot_html_show_formats = False
plot_html_show_source_link = False

sphinx_gallery_conf = {
    "capture_repr": ("_repr_html_",),
    "examples_dirs": "../examples",
    "gallery_dirs": "examples",
    "abort_on_example_error": True,
    "matplotlib_animations": (True, "jshtml"),
    "show_memory": False,
    "show_signature": False,
    "within_subsection_order": ExplicitOrder(
        [
            *("plot_tutorial.py", "plot_shapes.py", "plot_animation.py"),
            *("plot_cross_validation.py", "plot_hidden_units.py", "plot_search.py"),
            *("plot_table.py", "plot_early_stopping.py", "plot_imbalance.py"),
            *("plot_calibration.py", "plot_comparison.py"),
            *("plot_larger_than_memory.py", "plot_gpu.py"),
        ]
    ),
}
