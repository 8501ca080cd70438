"""What is done to finished outputs: merging shards, pruning, and taking images out."""
