"""What runs other jobs' work and compares what comes of it: evaluate, compare, reproduce, showcase."""
