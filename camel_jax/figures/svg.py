"""Figures as SVG inside a page: text stays text, colors follow the page's own, and nothing in them needs a style sheet of their own.

A page that allows no inline style still shows them: what matplotlib writes as ``style="..."`` becomes attributes, and the colors of
this package become variables of the page, which is light or dark.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable
from typing import Any

from camel_jax.figures.style import COLORS, FAINT, INK, new_figure, save_figure
from camel_jax.recipes.names import plain

WIDE, NARROW = (7.2, 4.3), (4.1, 3.9)  # inches
VARIABLES = {
    **{color.lower(): f"var(--c{i})" for i, color in enumerate(COLORS)},
    INK: "var(--ink)",
    "#000000": "var(--ink)",
    "#ffffff": "var(--paper)",
    FAINT: "var(--faint)",
    "#555555": "var(--muted)",
    "#777777": "var(--muted)",
    "#8a7a45": "var(--note)",
    "#f6f3ea": "var(--beyond)",
    "#e9e9e9": "var(--grid)",
    "#f0f0f0": "var(--grid)",
    "#6f8fa8": "var(--muted)",
    "#cccccc": "var(--grid)",
}


def page_figure(name: str, title: str, about: str, draw: Callable[[Any], Any]) -> str:
    """A figure for wide pages and one for narrow ones, as HTML with a description for those who do not see it.

    Args:
      name: of the figure, used in its identifiers; letters only.
      title: of the figure. about: what is to be seen in it, in a sentence or two.
      draw: draws on the Axes that it is given.

    >>> text = page_figure("line", "A line", "It rises.", lambda ax: ax.plot([0, 1], [0, 1]))
    >>> "style=" in text, text.count("<svg"), "var(--c" in text or "stroke" in text
    (False, 2, True)
    """
    parts = []
    for kind, size in (("wide", WIDE), ("narrow", NARROW)):
        figure = new_figure(*size)
        draw(figure.subplots())
        parts.append(as_svg(figure, f"{name}-{kind}", kind, title, about))
    caption = f"<figcaption>{_text(title)}</figcaption>"
    return f'<figure class="drawn" id="figure-{name}">{caption}{"".join(parts)}</figure>'


def as_svg(figure: Any, name: str, kind: str, title: str, about: str) -> str:
    """The SVG element of a figure. name: prefix of its identifiers. kind: class of the element. title, about: what it shows."""
    import matplotlib

    out = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        save_figure(figure, out, format="svg", metadata={"Date": None}, transparent=True)
    text = out.getvalue()
    view = re.search(r'viewBox="([^"]+)"', text)
    assert view is not None
    body = text[text.index(">", text.index("<svg")) + 1 : text.rindex("</svg>")]
    body = re.sub(
        r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->|<defs>\s*</defs>", "", body, flags=re.DOTALL
    )
    body = re.sub(r' style="([^"]*)"', lambda m: _attributes(m[1]), body)
    body = re.sub(r' (xlink:)?href="#([^"]+)"', rf' href="#{name}-\2"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", body)
    body = re.sub(r' id="([^"]+)"', lambda m: f' id="{name}-{m[1]}"' if f"#{name}-{m[1]}" in body else "", body)
    body = re.sub(r"#[0-9a-f]{6}", lambda m: VARIABLES.get(m[0], m[0]), body)
    body = re.sub(r">\s+<", "><", body)
    described = f"<title>{_text(title)}</title><desc>{_text(about)}</desc>"
    return (
        f'<svg class="{kind}" role="img" viewBox="{view[1]}" fill="var(--ink)" stroke-linejoin="round" xmlns="http://www.w3.org/2000/svg">'
        f"{described}{body.strip()}</svg>"
    )


def _attributes(style: str) -> str:
    """Declarations of a style as attributes; of a font, size and weight, its family being that of the page."""
    found: dict[str, str] = {}
    for declaration in style.split(";"):
        name, _, value = (part.strip() for part in declaration.partition(":"))
        if name == "font":
            size = re.search(r"([\d.]+)px", value)
            found |= {"font-size": f"{size[1]}px"} if size else {}
            found |= {"font-weight": "bold"} if re.search(r"\b(bold|[6-9]00)\b", value) else {}
        elif name in ("font-size", "font-weight", "text-anchor") or name.startswith(("fill", "stroke", "opacity")):
            found[name] = value
    return "".join(f' {name}="{html.escape(value)}"' for name, value in found.items())


def _text(text: str) -> str:
    return html.escape(plain(text))
