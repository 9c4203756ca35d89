"""Configuration of Sphinx for `nox -s docs`; tools/site makes the source tree from the pages of the repository."""

from ict_ref.utils.version import __version__

project = "ict_ref"
author = "The ict_ref developers"
project_copyright = "the ict_ref developers"
version = release = __version__
extensions = ["myst_parser", "sphinx_copybutton", "tools.site.mathematics"]
root_doc = "index"
nitpicky = True
myst_heading_anchors = 6
# Examples of JSON and of shells have omissions, which are not of the language.
suppress_warnings = ["misc.highlighting_failure"]
html_theme = "furo"
html_title = f"ict_ref {__version__}"
html_math_renderer = "katex"
html_static_path = ["_static"]
html_css_files = ["katex/katex.min.css", "site.css"]
html_js_files = []
html_copy_source = False
# A summary is fetched from the page that was found, which browsers do not allow for files.
html_show_search_summary = False
html_show_sourcelink = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}
pygments_style = "friendly"
pygments_dark_style = "native"
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True
