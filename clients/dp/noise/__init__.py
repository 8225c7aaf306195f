"""Noise: the discrete Gaussian, and where its chance comes from."""
