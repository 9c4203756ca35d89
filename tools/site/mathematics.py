"""A Sphinx extension that renders equations by KaTeX while the site is built, so that pages need no script for them."""

from functools import cache
from pathlib import Path
from typing import Any

import quickjs
from docutils.nodes import SkipNode

KATEX = Path(__file__).parents[2] / "docs" / "_static" / "katex" / "katex.min.js"
# In the display style, but set like text: it may then be broken at signs where the column is narrow.
RENDER = "(latex, style) => katex.renderToString(style + latex, {throwOnError: true, strict: 'error'})"


@cache
def renderer() -> Any:
    """Return KaTeX's function in an engine for JavaScript."""
    context = quickjs.Context()
    context.eval(KATEX.read_text(encoding="utf-8"))
    return context.eval(RENDER)


def render(latex: str, *, display: bool) -> str:
    """Return an equation as HTML with MathML.

    Raises:
        ValueError: KaTeX cannot read it.
    """
    try:
        return str(renderer()(latex, r"\displaystyle " if display else ""))
    except quickjs.JSException as error:
        raise ValueError(f"{latex}: {str(error).splitlines()[0]}") from None


def visit_inline(translator: Any, node: Any) -> None:
    """Write an equation within text."""
    translator.body.append(render(node.astext(), display=False))
    raise SkipNode


def visit_block(translator: Any, node: Any) -> None:
    """Write an equation that stands alone."""
    translator.body.append(f'<div class="equation">{render(node.astext(), display=True)}</div>\n')
    raise SkipNode


def setup(app: Any) -> dict[str, bool]:
    """Register the renderer under the name katex."""
    app.add_html_math_renderer("katex", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
