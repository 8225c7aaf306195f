"""Grids that run the league's two apps on one machine: in this process, on a process pool, or on Flower's engine."""
