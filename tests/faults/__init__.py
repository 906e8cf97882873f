"""The fault matrix: what goes wrong, what ends the GPU then, and how much later than it should."""
