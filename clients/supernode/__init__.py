"""A site's processes in a deployment: its kit, the SuperNode, the worker, and the supervisor that watches them."""
