"""How a network runs on its device: type, memory, compilation."""
