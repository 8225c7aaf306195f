"""Per-user gradients: each module is one way to compute them."""
