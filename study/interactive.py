"""Pages to leaf through, in a live notebook and in a static page without a kernel.

The front end alone moves them: every page is made beforehand, and a slider is linked to a stack in
the browser (`jslink`).
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping

from ipywidgets import HTML, Layout, SelectionSlider, Stack, ToggleButtons, VBox, Widget, jslink
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image

from study.markup import fill

DPI = 100


def picture(figure: Figure, alt: str) -> Markup:
    """A figure as an HTML image that carries its own data, and `alt` for who cannot see it."""
    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=DPI, facecolor="white")
    # a palette: half the size, and no difference to the eye in a plot
    Image.open(drawn).convert("RGB").quantize(256).save(small, format="png", optimize=True)
    return fill(
        '<img src="data:image/png;base64,{{ data }}" alt="{{ alt }}" '
        'style="max-width: 100%; width: {{ width }}px; height: auto">',
        data=base64.b64encode(small.getvalue()).decode("ascii"),
        alt=alt,
        width=round(figure.get_figwidth() * DPI),
    )


def slider_pages(pages: Mapping[str, str], *, description: str) -> Widget:
    """A slider over HTML pages, one at least; its readout is the label of the page in view."""
    if not pages:
        raise ValueError("there is no page to show")
    look = {"style": {"description_width": "initial"}}
    look |= {"layout": Layout(width="95%", max_width="40em")}
    slider = SelectionSlider(options=_labels(pages), description=description, **look)
    linked = _linked(slider, [HTML(page) for page in pages.values()])
    return linked if len(pages) > 1 else linked.children[1]


def choice_pages(pages: Mapping[str, Widget]) -> Widget:
    """Buttons, as wide as their text, one for each named widget; the chosen one is shown."""
    wide = {"style": {"button_width": "auto"}, "layout": Layout(width="100%")}
    return _linked(ToggleButtons(options=_labels(pages), **wide), list(pages.values()))


def _linked(selector: Widget, pages: list[Widget]) -> Widget:
    stack = Stack(pages, selected_index=0)
    jslink((selector, "index"), (stack, "selected_index"))
    return VBox([selector, stack])


def _labels(pages: Mapping[str, object]) -> list[str]:
    # widgets show labels as they stand; but a static page keeps them in a <script>, which a label
    # must not end
    return [label.replace("<", "\u2039") for label in pages]
