"""Training the ensemble of pixel classifiers."""
