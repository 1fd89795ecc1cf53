"""Maths as MathML, made when the pages are built: readable offline, without scripts or fonts to fetch."""

from __future__ import annotations

import html
import re

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

logger = logging.getLogger(__name__)

# Bars in pairs, so that they embrace what is between them, and what is then raised is the whole.
PAIRS = {r"\lVert": r"\left\|", r"\rVert": r"\right\|", r"\lvert": r"\left|", r"\rvert": r"\right|"}
# A bar over an expression only stretches in a maths font; a border (pages.css) needs none.
OVERLINE = re.compile(r'<mover><mrow>((?:(?!<mover>).)*?)</mrow><mo accent="true">&#x02015;</mo></mover>')


def to_mathml(node: nodes.Element, display: str) -> str:
    """The node's LaTeX as a MathML element; what cannot be converted is a warning, so the strict build fails."""
    latex = node.astext()
    for bar, paired in PAIRS.items():
        latex = latex.replace(bar, paired)
    try:
        element = OVERLINE.sub(r'<mrow class="overline">\1</mrow>', convert(latex, display=display))
    except Exception as error:  # the converter has no common error class
        element, unknown = f"<code>{html.escape(latex)}</code>", [str(error) or type(error).__name__]
    else:
        unknown = re.findall(r"\\[A-Za-z]+", element)
    if unknown:
        logger.warning("cannot write %r as MathML: %s", latex, ", ".join(unknown), location=node)
    return element


def inline(self: HTML5Translator, node: nodes.math) -> None:
    self.body.append(to_mathml(node, "inline"))
    raise nodes.SkipNode


def block(self: HTML5Translator, node: nodes.math_block) -> None:
    self.body.append(self.starttag(node, "div", CLASS="math"))
    self.body.append(to_mathml(node, "block"))
    self.body.append("</div>\n")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", inline_renderers=(inline, None), block_renderers=(block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
