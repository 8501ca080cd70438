"""Folders of Hugging Face diffusers and transformers and of timm, and the pipelines of diffusers."""
