"""NVlabs' pickles, read without running them."""
