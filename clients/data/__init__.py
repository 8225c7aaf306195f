"""A site's data, from the folder or the vault to the arrays that training and evaluation read."""
