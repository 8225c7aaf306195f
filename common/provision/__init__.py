"""What the parties of a deployed league agree on before it starts: certificates, keys, code and contract."""
