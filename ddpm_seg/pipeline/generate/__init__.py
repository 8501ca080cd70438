"""The generate job: seeds in, images with masks out."""
