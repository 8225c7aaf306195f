"""Flower's private parts: looked up here, and nowhere else; a contract of import-linter sees to it.

Made for the Flower that `pyproject.toml` pins. Everything else in Hansa uses `flwr.app`, `flwr.serverapp` and
`flwr.clientapp`, which are public. Who raises the pin goes through the modules of this room one by one, and then
raises `MADE_FOR`; their tests, and the deployment's, fail where a name is gone.
"""

MADE_FOR = "1.41.0"
