"""The label job: images in, masks and class statistics out."""
