"""The networks whose activations are read, one file per network."""
