"""Everything about machines: joining a Ray cluster, placing actors on its nodes, and handling its failures."""
