"""Baselines that few-shot segmentation is compared with."""
