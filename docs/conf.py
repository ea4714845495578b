"""How the site is built: `make docs` writes it to build/docs."""

import importlib.metadata
import pathlib
import shutil

DOCS = pathlib.Path(__file__).parent
# Beside the other pages, so that their links and pictures are found; git ignores the copy.
shutil.copytree(DOCS.parent / "experiments" / "results", DOCS / "results", dirs_exist_ok=True)

project = "jaxgan"
release = importlib.metadata.version("jaxgan")
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]

html_theme = "furo"
html_title = "jaxgan"
html_static_path = ["_static"]
html_show_copyright = False
html_css_files = ["site.css"]
# No machine of anybody's is asked for anything: fonts and scripts are in the pages.
html_copy_source = False

source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}
# The notebook is run by a test, and shown as it was run.
nb_execution_mode = "off"
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

default_role = "code"  # docstrings write names in single backquotes
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_class_signature = "separated"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
# References to what is documented here must lead somewhere; other libraries' pages are not asked.
nitpick_ignore_regex = [("py:.*", r"(?!jaxgan\.).*|jaxgan\.data\.spec\.Request")]


def setup(app):
    def keep_bars(app, what, name, thing, options, lines):
        """Norms such as |grad D| are no substitutions."""
        lines[:] = [line.replace("|", r"\|") for line in lines]

    app.connect("autodoc-process-docstring", keep_bars)
