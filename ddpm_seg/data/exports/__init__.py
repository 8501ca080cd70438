"""Writers of labelled images in the formats of other tools, one file per format."""
