"""Docstrings as mkdocstrings reads them: Sphinx roles become code."""

from __future__ import annotations

from typing import Any

import griffe

from docgen.text import plain_roles


class PlainRoles(griffe.Extension):
    """``:class:`InputError``` is shown as `InputError`."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = plain_roles(obj.docstring.value)
