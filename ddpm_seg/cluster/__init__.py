"""The machines of a run: joining a Ray cluster, sharing out its nodes, and what its failures are called."""
