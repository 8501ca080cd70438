"""The generate job: draws images with masks from random seeds."""
