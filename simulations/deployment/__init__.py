"""Deploying a league across machines: kits for all parties, and a rehearsal with processes of this machine."""
