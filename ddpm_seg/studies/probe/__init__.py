"""What each block knows at each timestep."""
