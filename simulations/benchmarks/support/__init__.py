"""What benchmarks share, and parts of one that run as processes of their own."""
