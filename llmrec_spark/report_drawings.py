"""A plot as an element of a page: words as text, colours that follow the page's light and dark, an alt text."""

from __future__ import annotations

import io
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Callable

from markupsafe import Markup
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, MUTED, LINE = "#010101", "#020202", "#030303"  # stand for colours of the page
BLUE, VERMILLION, GREEN = "#0072b2", "#d55e00", "#009e73"
OF_PAGE = {INK: "ink", MUTED: "muted", LINE: "line", BLUE: "blue", VERMILLION: "vermillion", GREEN: "green"}
WIDTH = 4.8  # inches of 72 units: the text of a plot as wide as a phone is still read
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "llmrec_spark",  # else ids, and so the bytes, differ from one rendering to the next
    "text.parse_math": False,  # a $ in a name is a $
    "font.size": 10,
    "text.color": INK,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}


def drawn(
    name: str,
    title: str,
    description: str,
    paint: Callable[[Axes], None],
    *,
    height: float,
    left: float = 0.62,
    right: float = 0.15,
    bottom: float = 0.5,
    top: float = 0.1,
) -> Markup:
    """One plot of `height` inches; margins in inches; `name` is unique in the page."""
    with style.context(["default", STYLE]), warnings.catch_warnings(), io.StringIO() as file:
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the reader's fonts draw the words
        figure = Figure(figsize=(WIDTH, height))
        box = (left / WIDTH, bottom / height, (WIDTH - left - right) / WIDTH, (height - bottom - top) / height)
        axes = figure.add_axes(box)
        figure.patch.set_visible(False)
        axes.patch.set_visible(False)
        paint(axes)
        figure.savefig(file, format="svg", metadata={"Date": None})
        return _for_page(file.getvalue(), name, title, description)


def _for_page(svg: str, name: str, title: str, description: str) -> Markup:
    """An SVG document as an element of the page: its colours the page's, its ids its own, its words an alt text."""
    root = ET.fromstring(svg)
    for child in [child for child in root if child.tag.endswith(("metadata", "defs"))]:
        root.remove(child)  # who drew it and when, and a style that would hold for the whole page
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', svg))
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        attributes = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
        if attributes.get("id") not in used:
            attributes.pop("id", None)
        element.attrib.clear()
        element.attrib.update({key: _of_page(key, value, name) for key, value in attributes.items()})
    box = root.attrib["viewBox"]
    root.attrib.clear()
    root.attrib.update({"viewBox": box, "role": "img", "aria-labelledby": f"{name}-title {name}-desc"})
    for place, (tag, text) in enumerate((("title", title), ("desc", description))):
        words = ET.Element(tag, {"id": f"{name}-{tag}"})
        words.text = text
        root.insert(place, words)
    return Markup(re.sub(r">\s+<", "><", ET.tostring(root, encoding="unicode")))  # ElementTree has escaped it


def _of_page(key: str, value: str, name: str) -> str:
    """The value of one attribute: ids with the plot's name before them, the page's colours and fonts."""
    if key == "id":
        return f"{name}-{value}"
    if key in ("href", "clip-path"):
        return value.replace("#", f"#{name}-")
    if key == "style":
        value = re.sub(r"font-family: [^;]*; ", "", value)
        for colour, variable in OF_PAGE.items():
            value = value.replace(colour, f"var(--{variable})")
    return value
