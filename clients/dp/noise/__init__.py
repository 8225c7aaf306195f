"""Noise: the discrete Gaussian, and the sources of its randomness."""
