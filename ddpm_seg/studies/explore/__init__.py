"""What the features know before anybody annotates: clusters of pixels."""
