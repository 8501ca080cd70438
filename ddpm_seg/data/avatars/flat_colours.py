"""Masks of avatars: repaints every part of the SVG in one flat colour per class."""

from __future__ import annotations

from dataclasses import dataclass, replace
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

SVG = "{http://www.w3.org/2000/svg}"
SHAPES = {SVG + name for name in ("path", "circle", "ellipse", "rect", "polygon", "polyline", "use")}
STENCILS = {SVG + "mask", SVG + "clipPath"}

SKIN, HAIR, EYES, EYEBROWS, NOSE, MOUTH, FACIAL_HAIR, ACCESSORY, CLOTHING = range(1, 10)
PART_CLASSES = {
    "transparent_Body": SKIN,
    "transparent_Top": HAIR,
    "transparent_Eyes": EYES,
    "transparent_Eyebrow": EYEBROWS,
    "transparent_Nose": NOSE,
    "transparent_Mouth": MOUTH,
    "transparent_Clothing": CLOTHING,
}
NESTED_CLASSES = {"_Facial-Hair": FACIAL_HAIR, "_Accessory": ACCESSORY}  # inside the group of the hair or hat
# Corners and edges of the colour cube, far from each other; black stays for the empty background.
FLAT_COLOURS = np.array(
    [
        (0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0),
        (255, 0, 255), (0, 255, 255), (255, 255, 255), (255, 128, 0), (0, 128, 255),
    ]
)  # fmt: skip
# Fainter paint than this is a shadow or a highlight: the part below it keeps its label.
VISIBLE_OPACITY = 0.35


@dataclass(frozen=True, kw_only=True)
class _Paint:
    """What an SVG element inherits: its class, how it is painted, and whether it is drawn itself."""

    label: int = 0
    fill: str = "black"
    stroke: str = "none"
    fill_opacity: float = 1.0
    opacity: float = 1.0
    stencil: bool = False  # in a mask or clip path: only its shape counts, painted white
    shared: bool = False  # in <defs>: takes the paint of the <use> that draws it

    def of(self, element: ElementTree.Element) -> _Paint:
        name = element.get("id", "")
        label = PART_CLASSES.get(name, self.label)
        label = next((nested for end, nested in NESTED_CLASSES.items() if name.endswith(end)), label)
        style = dict(rule.split(":", 1) for rule in element.get("style", "").replace(" ", "").split(";") if rule)
        own = {**element.attrib, **style}
        return replace(
            self,
            label=label,
            fill=own.get("fill") or self.fill,
            stroke=own.get("stroke") or self.stroke,
            fill_opacity=float(own.get("fill-opacity", self.fill_opacity)),
            opacity=self.opacity * float(own.get("opacity", 1)) * (0 if "mix-blend-mode" in style else 1),
            stencil=self.stencil or element.tag in STENCILS,
            shared=self.shared or element.tag == SVG + "defs",
        )

    def flat(self, paint: str, opacity: float) -> str:
        """The flat colour for `paint`. Gradients become "none": the library drops them, so they are not visible in the
        picture."""
        faint = self.label != NOSE and self.opacity * opacity < VISIBLE_OPACITY
        if paint == "none" or paint.startswith("url(") or faint or not self.label:
            return "none"
        return "#{:02X}{:02X}{:02X}".format(*FLAT_COLOURS[self.label])


def flatten(element: ElementTree.Element, inherited: _Paint | None = None) -> None:
    """Repaints every shape in its class's flat colour, in place."""
    paint = (inherited or _Paint()).of(element)
    for attribute in ("fill", "stroke", "style", "opacity", "fill-opacity", "stroke-opacity", "filter"):
        element.attrib.pop(attribute, None)
    if element.tag in SHAPES and paint.stencil:
        element.set("fill", "#FFFFFF")
    elif element.tag in SHAPES and not paint.shared:
        element.set("fill", paint.flat(paint.fill, paint.fill_opacity))
        element.set("stroke", paint.flat(paint.stroke, 1))
    for child in element:
        flatten(child, paint)


def classes_of_colours(flat: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Class ids (H, W) from flat colours (H, W, 4): background where transparent, else the class with the nearest
    colour."""
    distance = ((flat[..., None, :3].astype(np.int64) - FLAT_COLOURS) ** 2).sum(axis=-1)
    distance[..., 0] = 4 * 255**2  # no part is painted black
    return np.where(flat[..., 3] < 128, 0, distance.argmin(axis=-1)).astype(np.uint8)
