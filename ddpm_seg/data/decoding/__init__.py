"""Decoding the bytes of an image file to RGB pixels, within limits."""
