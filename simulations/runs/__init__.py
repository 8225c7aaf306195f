"""A run from options to report, its plan, and answers from one that has ended."""
