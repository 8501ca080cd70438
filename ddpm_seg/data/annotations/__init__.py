"""Annotated images in every form that is accepted, one file a form."""
