"""Docstrings as Markdown for the reference: doctests become code blocks, roles of Sphinx become plain code."""

from __future__ import annotations

import re
from typing import Any

import griffe


def as_markdown(text: str) -> str:
    """A docstring with its doctests fenced.

    >>> as_markdown("One.\\n\\n>>> 1 + 1\\n2\\n\\nTwo.")
    'One.\\n\\n```pycon\\n>>> 1 + 1\\n2\\n```\\n\\nTwo.'
    """
    lines, inside = [], False
    for line in text.split("\n"):
        if not inside and line.lstrip().startswith(">>> "):
            lines.append("```pycon")
            inside = True
        elif inside and not line.strip():
            lines.append("```")
            inside = False
        lines.append(line)
    if inside:
        lines.append("```")
    return re.sub(r":(?:func|class|meth|mod|attr):`~?(?:[\w.]+\.)?(\w+)`", r"`\1`", "\n".join(lines))


class MarkdownDocstrings(griffe.Extension):
    """Rewrites every docstring that is collected."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called by griffe for every module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
