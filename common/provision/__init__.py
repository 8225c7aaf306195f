"""What a league across machines agrees on before it starts: certificates, keys, code and contract."""
