"""The label job: makes masks and class statistics from images."""
