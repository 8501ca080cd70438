"""Figures of merit for masks, probabilities and samples."""
