"""The coordinator's processes in a deployment: SuperLink, its door, the guard before it, and who keeps them up."""
