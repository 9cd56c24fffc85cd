"""Sphinx configuration: ``pip install '.[docs]' && sphinx-build docs docs/_build``."""

project = "lft"
extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
root_doc = "index"
exclude_patterns = ["_build"]
numpydoc_show_class_members = False
html_theme = "alabaster"
