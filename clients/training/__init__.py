"""Training at a site: samples, the joint loss, epochs."""
