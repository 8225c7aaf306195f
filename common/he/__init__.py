"""Homomorphic encryption by TenSEAL: schemes, and the limited processes that parse peers' ciphertexts."""
