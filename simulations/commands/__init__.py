"""The commands of `hansa`, a small file per group."""
