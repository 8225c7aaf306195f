"""Per-user gradients, each way to them a module."""
