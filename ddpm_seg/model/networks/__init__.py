"""The networks whose activations are read, one a file."""
