"""Training a student on labelled samples."""
