"""Code that benchmarks share, and parts of benchmarks that run as processes of their own."""
