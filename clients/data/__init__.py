"""A site's data as arrays: from the folder or the vault to what training and evaluation read."""
