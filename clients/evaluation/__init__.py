"""Evaluation at a site: the rows to rank, the scorers, the comparison of methods, and the outputs."""
