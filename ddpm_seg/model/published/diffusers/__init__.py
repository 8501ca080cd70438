"""Pipelines of Hugging Face diffusers, read from a folder."""
