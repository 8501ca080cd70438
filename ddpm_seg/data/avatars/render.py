"""Avatars-10: rendered 64 x 64 portraits with exact masks of face parts, the pictures of the demonstration task.

Needs `pip install 'ddpm_seg[avatars]'`. The art is Avataaars by Pablo Stanley (free for personal and commercial use),
as drawn by python-avatars (MIT, by Ibon).

The mask is the same SVG with every part in one flat colour, rasterised without antialiasing, so that picture and mask
have exactly the same geometry. A mask pixel gets the class that covers most of its area.
"""

from __future__ import annotations

import colorsys
import io
from typing import TYPE_CHECKING, Any, Literal
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddpm_seg.data.avatars.backdrops import Colour, Rng, any_colour, background, light
from ddpm_seg.data.avatars.flat_colours import FLAT_COLOURS, SVG, classes_of_colours, flatten

if TYPE_CHECKING:
    import python_avatars

SUPERSAMPLING = 3  # both are drawn this much larger; then the picture is averaged and the mask takes the majority
HEADROOM = 4.0  # units of the SVG, at least, between the frame and the top of hair or hat
# The library draws shoulders and clothes with the same edge. Narrower shoulders leave no rim of skin outside.
SHOULDERS = "L124,163 L128,163 C167.764502,163 200,195.235498 200,235 L200,244 L0,244 L0,235"
SHOULDERS += " C-4.86974701e-15,195.235498 32.235498,163 72,163 L76,163"
NARROWER = "L124,164.5 L128,164.5 C167,164.5 198.5,196 198.5,236 L198.5,244 L1.5,244 L1.5,236"
NARROWER += " C1.5,196 33,164.5 72,164.5 L76,164.5"
# Left out: parts that hide the face, are clipped by the frame, have one fixed colour, or draw something else as well
# (tears, blushing cheeks, text, tassels).
HAIRS = [
    "BIG_HAIR", "BOB", "BUN", "CAESAR_SIDE_PART", "CAESAR", "CURLY", "CURVY", "DREADS", "FRIZZLE", "FRO_BAND", "FRO",
    "LONG_NOT_TOO_LONG", "MIA_WALLACE", "SHAGGY_MULLET", "SHAGGY", "SHORT_CURLY", "SHORT_DREADS_1", "SHORT_DREADS_2",
    "SHORT_FLAT", "SHORT_ROUND", "SHORT_WAVED", "SIDES", "STRAIGHT_1", "STRAIGHT_STRAND", "BRAIDS", "BUZZCUT",
    "CORNROWS", "CURLY_2", "DREADLOCKS", "EINSTEIN_HAIR", "ELVIS", "HALF_SHAVED", "LOOSE_HAIR", "MOHAWK", "MOWGLI",
    "PIXIE", "POMPADOUR", "QUIFF", "TWIST_LONG_HAIR", "TWIST_LONG_HAIR_2", "WILD",
]  # fmt: skip
HATS = [
    "HAT", "HIJAB", "TURBAN", "WINTER_HAT_1", "WINTER_HAT_3", "WINTER_HAT_4", "CHEF_CAP",
]  # fmt: skip
EYE_TYPES = [
    "DEFAULT", "DEFAULT", "DEFAULT", "SURPRISED", "SURPRISED", "SQUINT", "SQUINT", "EYE_ROLL", "SIDE", "HAPPY",
    "CLOSED", "WINK", "WINK_WACKY",
]  # fmt: skip
BEARDS = [
    "BEARD_LIGHT", "BEARD_MAGESTIC", "BEARD_MEDIUM", "MOUSTACHE_FANCY", "MOUSTACHE_MAGNUM", "EINSTEIN_MOUSTACHE",
]  # fmt: skip
MOUTHS = [
    "DEFAULT", "CONCERNED", "DISBELIEF", "GRIMACE", "SAD", "SCREAM_OPEN", "SERIOUS", "SMILE", "TONGUE", "TWINKLE",
    "BIG_SMILE",
]  # fmt: skip
CLOTHES = [
    "BLAZER_SHIRT", "BLAZER_SWEATER", "COLLAR_SWEATER", "GRAPHIC_SHIRT", "HOODIE", "OVERALL", "SHIRT_CREW_NECK",
    "SHIRT_SCOOP_NECK", "SHIRT_V_NECK", "BOND_SUIT", "CHEF", "JEDI_ROBE", "SHIRT_WICK",
]  # fmt: skip


def check_installed() -> None:
    """Raises ImportError, with the command to run, if the optional packages are missing."""
    try:
        import python_avatars  # noqa: F401
        import resvg_py  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"rendering avatars needs more packages: pip install 'ddpm_seg[avatars]' ({error})"
        ) from error


def render(seed: int, index: int, size: int = 64) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Picture `index` of the data set `seed`; depends on these two numbers alone.

    Returns image (size, size, 3) uint8 RGB and mask (size, size) uint8 with class ids 0..9 (task "avatars_10"). Raises
    ValueError for a negative seed or index or a size below 8, ImportError as `check_installed`.
    """
    check_installed()
    if seed < 0 or index < 0 or size < 8:
        raise ValueError(f"expected seed >= 0, index >= 0 and size >= 8, got seed={seed}, index={index}, size={size}")
    rng = np.random.default_rng([seed, index])
    tree = ElementTree.fromstring(_avatar(rng).render())
    _place(rng, tree)
    _narrow_shoulders(tree)
    _deepen_nose(rng, tree)
    drawn = _rasterise(tree, size * SUPERSAMPLING, "geometric_precision")
    image = light(rng, _over(drawn, background(rng, size * SUPERSAMPLING)))
    flatten(tree)
    flat = _rasterise(tree, size * SUPERSAMPLING, "crisp_edges")
    return _mean(image), _majority(classes_of_colours(flat))


def _avatar(rng: Rng) -> python_avatars.Avatar:
    """Random parts and colours. Sets every argument, as the library draws its own defaults at import."""
    import python_avatars as parts

    hair_colour = _near(rng, _pick(rng, [colour.value for colour in parts.HairColor]))
    beard_colour = hair_colour if rng.random() < 0.8 else _near(rng, _pick(rng, [c.value for c in parts.HairColor]))
    return parts.Avatar(
        style=parts.AvatarStyle.TRANSPARENT,
        top=_top(rng),
        hat_color=_cloth_colour(rng),
        eyebrows=_pick(rng, [brow for brow in parts.EyebrowType if brow.value]),
        eyes=parts.EyeType[_pick(rng, EYE_TYPES)],
        nose=_pick(rng, list(parts.NoseType)),
        mouth=parts.MouthType[_pick(rng, MOUTHS)],
        facial_hair=parts.FacialHairType[_pick(rng, BEARDS) if rng.random() < 0.33 else "NONE"],
        skin_color=_near(rng, _pick(rng, [colour.value for colour in parts.SkinColor])),
        hair_color=hair_colour,
        facial_hair_color=beard_colour,
        accessory=_pick(rng, [kind for kind in parts.AccessoryType if kind.value])
        if rng.random() < 0.35
        else parts.AccessoryType.NONE,
        clothing=parts.ClothingType[_pick(rng, CLOTHES)],
        clothing_color=_cloth_colour(rng),
        shirt_graphic=_pick(rng, [graphic for graphic in parts.ClothingGraphic if graphic.name != "CUSTOM_TEXT"]),
        shirt_text="",
        background_color="none",
    )


def _top(rng: Rng) -> python_avatars.HairType | python_avatars.HatType:
    import python_avatars as parts

    chance = rng.random()
    if chance < 0.2:
        return parts.HatType[_pick(rng, HATS)]
    return parts.HairType.NONE if chance < 0.25 else parts.HairType[_pick(rng, HAIRS)]


def _pick(rng: Rng, choices: list[Any]) -> Any:
    return choices[int(rng.integers(len(choices)))]


def _near(rng: Rng, colour: str) -> str:
    """A random colour near "#RRGGBB" in hue, saturation and value."""
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
    hue = (hue + rng.normal(0, 0.012)) % 1
    saturation = min(max(saturation * rng.uniform(0.8, 1.15), 0), 1)
    value = min(max(value * rng.uniform(0.85, 1.1), 0.08), 1)
    return _hex(colorsys.hsv_to_rgb(hue, saturation, value))


def _cloth_colour(rng: Rng) -> str:
    import python_avatars as parts

    if rng.random() < 0.4:
        return _near(rng, _pick(rng, [colour.value for colour in parts.ClothingColor]))
    return _hex(any_colour(rng))


def _hex(colour: Colour) -> str:
    return "#" + "".join(f"{round(channel * 255):02X}" for channel in colour)


def _place(rng: Rng, tree: ElementTree.Element) -> None:
    """Puts head and shoulders in a square frame; rotates, shifts, scales and mirrors them inside the SVG."""
    side = rng.uniform(206, 246)
    x = 132 + rng.normal(0, 5)
    y = 120 + rng.uniform(-6, 8)
    angle = float(np.clip(rng.normal(0, 5), -10, 10))
    mirror = 1 if rng.random() < 0.5 else -1
    body = next(child for child in tree if child.tag == SVG + "g")
    body.set("transform", f"rotate({angle:.4f}) scale({mirror}, 1) translate({-x:.4f}, {-y:.4f})")
    missing = max(-side / 2 - (_highest_point(tree) - HEADROOM), 0)
    tree.set(
        "viewBox", " ".join(f"{v:.4f}" for v in (-(side + missing) / 2, -side / 2 - missing, *[side + missing] * 2))
    )


def _highest_point(tree: ElementTree.Element) -> float:
    """Top of the drawing in the frame's units: some hats are taller than a frame that suits hair."""
    tree.set("viewBox", "-200 -200 400 400")
    alpha = _rasterise(tree, 200, "crisp_edges")[..., 3]
    return float(np.flatnonzero((alpha > 127).any(axis=1))[0] * 2 - 200)


def _narrow_shoulders(tree: ElementTree.Element) -> None:
    outline = next(element for element in tree.iter() if element.get("id") == "transparent_path-1")
    outline.set("d", outline.get("d", "").replace(SHOULDERS, NARROWER))


def _deepen_nose(rng: Rng, tree: ElementTree.Element) -> None:
    """Darkens the nose: the library's 16% shade nearly disappears at 64 pixels on dark skin."""
    opacity = f"{rng.uniform(0.24, 0.42):.4f}"
    nose = next(element for element in tree.iter() if element.get("id") == "transparent_Nose")
    for element in nose.iter():
        element.set("fill-opacity", opacity)


def _rasterise(
    tree: ElementTree.Element, size: int, shape_rendering: Literal["geometric_precision", "crisp_edges"]
) -> NDArray[np.uint8]:
    """(size, size, 4) uint8 RGBA with straight alpha."""
    import resvg_py

    tree.set("width", str(size))
    tree.set("height", str(size))
    svg = ElementTree.tostring(tree, encoding="unicode")
    png = resvg_py.svg_to_bytes(svg_string=svg, skip_system_fonts=True, shape_rendering=shape_rendering)
    return np.asarray(Image.open(io.BytesIO(bytes(png))).convert("RGBA"))


def _over(drawn: NDArray[np.uint8], background: NDArray[np.float64]) -> NDArray[np.float64]:
    alpha = drawn[..., 3:] / 255
    return drawn[..., :3] / 255 * alpha + background * (1 - alpha)


def _mean(image: NDArray[np.float64]) -> NDArray[np.uint8]:
    """(3H, 3W, 3) in [0, 1] to (H, W, 3) uint8."""
    return np.rint(_blocks(image).mean(axis=-1) * 255).astype(np.uint8)


def _majority(classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Class ids (3H, 3W) to (H, W): the commonest of each nine, on a tie the smallest."""
    votes = np.stack([(_blocks(classes) == label).sum(axis=-1) for label in range(len(FLAT_COLOURS))], axis=-1)
    return votes.argmax(axis=-1).astype(np.uint8)


def _blocks(pixels: NDArray[Any]) -> NDArray[Any]:
    """(3H, 3W, ...) to (H, W, ..., 9)."""
    height, width = (side // SUPERSAMPLING for side in pixels.shape[:2])
    split = pixels.reshape(height, SUPERSAMPLING, width, SUPERSAMPLING, *pixels.shape[2:])
    return np.moveaxis(split, (1, 3), (-2, -1)).reshape(height, width, *pixels.shape[2:], SUPERSAMPLING**2)
