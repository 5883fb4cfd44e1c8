"""Text from records and profiles on pages: the one place where it is escaped."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

SPECIAL = re.compile(r'[&<>"`|$\\*_\[\]{}#~]|:(?=:)')
"""What HTML or MyST reads as markup inside of a line; `Markup` alone may hold it."""

HOST = "https://github.com/qaprune/qaprune"
"""Where records and commits can be read."""


def escape(value: object) -> Markup:
    """A value on one line, to be read as it stands in HTML and in MyST alike.

    Numeric character references are text to both, in tables, captions, attributes and fences too.

    >>> escape("a|b <i>")
    Markup('a&#124;b &#60;i&#62;')
    """
    if isinstance(value, Markup):
        return value
    return Markup(SPECIAL.sub(lambda found: f"&#{ord(found[0])};", " ".join(str(value).split())))


def render(template: str, **values: Any) -> Markup:
    """A file of `templates/`, filled with values, of which all but `Markup` are escaped."""
    return Markup(_environment().get_template(template).render(values))


def fill(text: str, /, **values: Any) -> Markup:
    """As `render`, of a template that is given itself."""
    return Markup(_environment().from_string(text).render(values))


def slug(name: str) -> str:
    """A name of letters, digits and hyphens, for files and labels."""
    return "".join(character if character.isalnum() else "-" for character in name)


def run_anchor(provenance: str, profile: str, run: str) -> str:
    """Where a run's record stands on the page of records."""
    return f"record-{slug(f'{provenance}-{profile}-{run}')}"


def run_link(provenance: str, profile: str, run: str) -> Markup:
    """The id of a run, with a link to its record."""
    link = '<a href="{{ page }}#{{ anchor }}">{{ run }}</a>'
    anchor = run_anchor(provenance, profile, run)
    return fill(link, page="records.html", anchor=Markup(anchor), run=run)


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,  # so that macros give `Markup`
        finalize=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
