"""What the files of a kit are called, at the coordinator and at a site; contract and signature name theirs themselves.

Invariant: what bears a secret lies in the kit's folder `private/`.
"""

from __future__ import annotations

AUTHORITY = "ca.crt"
"""The league's certificate authority, in every kit."""
REVOKED = "revoked.crl"
SERVER_CERTIFICATE, SERVER_KEY = "server.crt", "server.key"
COORDINATOR = "coordinator.json"
CLIENT_CERTIFICATE, CLIENT_KEY = "client.crt", "client.key"
NODE_KEY, KEYS = "node.key", "keys.json"
SITE = "site.json"
WORKER_SECRET = "worker.secret"  # noqa: S105 — the name of a file
"""What a process of Flower shares with the one that does its work, made anew at every start."""
