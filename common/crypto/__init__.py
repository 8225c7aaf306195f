"""Cryptography that both sides agree on: the envelope of data at rest, role keys, signed containers, packed numbers."""
