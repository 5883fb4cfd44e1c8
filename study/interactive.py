"""Pages to leaf through, in a live notebook and in a static page without a kernel.

The front end alone moves them: every page is made beforehand, and a slider is linked to a stack in
the browser (`jslink`).
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ipywidgets import Widget
    from matplotlib.figure import Figure

DPI = 100


def picture(figure: Figure, alt: str) -> str:
    """A figure as an HTML image that carries its own data, and `alt` for who cannot see it."""
    from PIL import Image

    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=DPI, facecolor="white")
    drawn.seek(0)
    small = io.BytesIO()
    # a palette: half the size, and no difference to the eye in a plot
    Image.open(drawn).convert("RGB").quantize(256).save(small, format="png", optimize=True)
    data = base64.b64encode(small.getvalue()).decode("ascii")
    return (
        f'<img src="data:image/png;base64,{data}" alt="{html.escape(alt, quote=True)}" '
        f'style="max-width: 100%; width: {figure.get_figwidth() * DPI:.0f}px; height: auto">'
    )


def slider_pages(pages: Mapping[str, str], *, description: str) -> Widget:
    """A slider over HTML pages; its readout is the label of the page in view.

    Raises:
        ValueError: there is no page.
    """
    from ipywidgets import HTML, Layout, SelectionSlider, Stack, VBox, jslink

    if not pages:
        raise ValueError("there is no page to show")
    stack = Stack([HTML(page) for page in pages.values()], selected_index=0)
    slider = SelectionSlider(
        options=list(pages),
        description=description,
        style={"description_width": "initial"},
        layout=Layout(width="95%", max_width="40em"),
    )
    jslink((slider, "index"), (stack, "selected_index"))
    return VBox([slider, stack] if len(pages) > 1 else [stack])


def choice_pages(pages: Mapping[str, Widget]) -> Widget:
    """Buttons, one for each named widget, of which the chosen one is shown.

    Raises:
        ValueError: there is no page.
    """
    from ipywidgets import Layout, Stack, ToggleButtons, VBox, jslink

    if not pages:
        raise ValueError("there is no page to show")
    stack = Stack(list(pages.values()), selected_index=0)
    # unlike the titles of tabs, those of buttons are as wide as their text
    buttons = ToggleButtons(
        options=list(pages), style={"button_width": "auto"}, layout=Layout(width="100%")
    )
    jslink((buttons, "index"), (stack, "selected_index"))
    return VBox([buttons, stack])
