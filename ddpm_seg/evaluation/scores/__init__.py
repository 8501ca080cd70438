"""Scores of masks, probabilities and samples."""
