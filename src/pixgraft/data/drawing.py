"""Lines, boxes, dots and text, as SVG and as PNG alike."""

import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from pixgraft.errors import printable

Point = tuple[float, float]
Anchor = Literal["start", "middle", "end"]

FINE, SCALE = 4, 2
"""A PNG has SCALE pixels for each unit of the drawing; its lines are drawn FINE times as large, and then averaged."""
INK, GREY = "#222222", "#555555"
MARK = "pixgraft"
"""What says in a file that this program wrote it."""


@dataclass(frozen=True)
class _Line:
    points: Sequence[Point]
    colour: str
    width: float


@dataclass(frozen=True)
class _Dot:
    at: Point
    colour: str
    filled: bool
    radius: float


@dataclass(frozen=True)
class _Box:
    corner: Point
    size: Point
    colour: str


@dataclass(frozen=True)
class _Text:
    at: Point
    text: str
    size: float
    anchor: Anchor
    colour: str


def escaped(outside: str) -> str:
    """Text for HTML and SVG, of which nothing is taken for markup or hides."""
    return html.escape(printable(outside))


class Drawing:
    """What is drawn, from a white ground up. Points are (x, y) from the top left corner."""

    def __init__(self, width: int, height: int, title: str) -> None:
        """`title` describes it for those who do not see it."""
        self.width, self.height, self.title = width, height, title
        self._items: list[_Line | _Dot | _Box | _Text] = []

    def line(self, points: Sequence[Point], colour: str, *, width: float = 1.0) -> None:
        """A line through points."""
        self._items.append(_Line(points, colour, width))

    def dot(self, at: Point, colour: str, *, filled: bool, radius: float = 4.0) -> None:
        """A disc, or a ring."""
        self._items.append(_Dot(at, colour, filled, radius))

    def box(self, corner: Point, size: Point, colour: str) -> None:
        """A filled rectangle from its top left corner, of a width and a height."""
        self._items.append(_Box(corner, size, colour))

    def text(self, at: Point, text: str, *, size: float = 12, anchor: Anchor = "start", colour: str = INK) -> None:
        """One line of text whose middle is at the height of `at`."""
        self._items.append(_Text(at, printable(text), size, anchor, colour))

    def svg(self) -> bytes:
        """As SVG."""
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" width="{self.width}" '
            f'font-family="sans-serif" role="img" aria-label="{escaped(self.title)}">',
            f"<desc>{MARK}</desc>",
            f'<rect width="{self.width}" height="{self.height}" fill="white"/>',
        ]
        for item in self._items:
            if isinstance(item, _Line):
                points = " ".join(f"{x:.1f},{y:.1f}" for x, y in item.points)
                stroke = f'stroke="{item.colour}" stroke-width="{item.width:g}" stroke-linejoin="round"'
                parts.append(f'<polyline points="{points}" fill="none" {stroke}/>')
            elif isinstance(item, _Dot):
                fill = item.colour if item.filled else "none"
                place = f'cx="{item.at[0]:.1f}" cy="{item.at[1]:.1f}" r="{item.radius:g}"'
                parts.append(f'<circle {place} fill="{fill}" stroke="{item.colour}" stroke-width="1.5"/>')
            elif isinstance(item, _Box):
                place = f'x="{item.corner[0]:.1f}" y="{item.corner[1]:.1f}"'
                size = f'width="{item.size[0]:.1f}" height="{item.size[1]:.1f}"'
                parts.append(f'<rect {place} {size} fill="{item.colour}"/>')
            else:
                place = f'x="{item.at[0]:.1f}" y="{item.at[1]:.1f}" dominant-baseline="middle"'
                style = f'font-size="{item.size:g}" text-anchor="{item.anchor}" fill="{item.colour}"'
                parts.append(f"<text {place} {style}>{escaped(item.text)}</text>")
        return "".join([*parts, "</svg>\n"]).encode()

    def png(self) -> bytes:
        """As PNG."""
        image = Image.new("RGB", (self.width * FINE, self.height * FINE), "white")
        draw = ImageDraw.Draw(image)
        for item in self._items:
            if isinstance(item, _Line):
                points = [(x * FINE, y * FINE) for x, y in item.points]
                draw.line(points, item.colour, round(item.width * FINE), joint="curve")
            elif isinstance(item, _Dot):
                x, y = item.at
                box = [(side + part) * FINE for part in (-item.radius, item.radius) for side in (x, y)]
                draw.ellipse(box, item.colour if item.filled else None, item.colour, round(1.5 * FINE))
            elif isinstance(item, _Box) and min(item.size) * FINE >= 1:
                (x, y), (width, height) = item.corner, item.size
                draw.rectangle([x * FINE, y * FINE, (x + width) * FINE - 1, (y + height) * FINE - 1], item.colour)
        image = image.resize((self.width * SCALE, self.height * SCALE), Image.Resampling.BOX)
        draw = ImageDraw.Draw(image)
        for item in self._items:
            if isinstance(item, _Text):  # fonts have edges of their own
                anchor = {"start": "lm", "middle": "mm", "end": "rm"}[item.anchor]
                place = (item.at[0] * SCALE, item.at[1] * SCALE)
                draw.text(place, item.text, item.colour, ImageFont.load_default(item.size * SCALE), anchor)
        about = PngImagePlugin.PngInfo()
        about.add_text("Software", MARK)
        file = io.BytesIO()
        image.save(file, "PNG", pnginfo=about)
        return file.getvalue()


def paler(colour: str, share: float) -> str:
    """A colour "#rrggbb" mixed with a share of white."""
    levels = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return "#" + "".join(f"{round(level + (255 - level) * share):02x}" for level in levels)
