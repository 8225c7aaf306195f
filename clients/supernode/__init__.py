"""A site's processes in a deployment: its kit, the SuperNode, the worker, and who watches them."""
