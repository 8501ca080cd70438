"""What few-shot segmentation is compared with."""
