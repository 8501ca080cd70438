"""Limits on the sizes that a network's description may state: far beyond any published network, yet safe to handle.

A description costs nothing to write, and its reader would build whatever it states. For comparison: the published DDPM
has 552.8 million parameters, 256 x 256 pixels, 18 decoder blocks and 10 members; a ViT-7B has 40 blocks of width 4096.
"""

from __future__ import annotations

MAX_IMAGE_SIZE = 2048
MAX_RESOLUTION = 4096
"""Largest side that a student enlarges images to."""
MAX_CHANNELS = 16_384
"""Channels of any layer, or width of a transformer."""
MAX_LEVELS = 12
"""Resolution levels of a UNet."""
MAX_BLOCKS_PER_LEVEL = 32
MAX_DEPTH = 256
"""Blocks of a transformer, or of a VDVAE's encoder or decoder."""
MAX_HEADS = 1024
MAX_TIMESTEPS = 100_000
MAX_STEPS = 1000
"""Steps, or blocks, at which features are read."""
MAX_MEMBERS = 1024
MAX_PARAMETERS = 20 * 10**9


def check_range(name: str, value: float, most: float, least: float = 1) -> None:
    """Raises ValueError unless `value` is in `least` to `most`; NaN is not."""
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    if not value <= most:
        raise ValueError(f"{name} must be at most {most}, got {value}")
