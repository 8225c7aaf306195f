"""Flower's private parts: looked up here, and nowhere else."""
