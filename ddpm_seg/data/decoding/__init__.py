"""From the bytes of one image file to RGB pixels, within limits."""
