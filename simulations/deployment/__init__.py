"""A league across machines, or across processes of this one: kits, and a rehearsal."""
