"""Keeps the scripts of sphinx-thebe out, which Jupyter Book loads for pages that run: ours do not.

They would stand on every page twice, which is an error there.
"""

from __future__ import annotations

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx_thebe import init_thebe_core


def disconnect(app: Sphinx, config: Config) -> None:
    """Forget the function of sphinx-thebe that adds them."""
    for listeners in app.events.listeners.values():
        listeners[:] = [one for one in listeners if one.handler is not init_thebe_core]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("config-inited", disconnect)
    return {"parallel_read_safe": True}
