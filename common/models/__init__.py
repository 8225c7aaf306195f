"""The model that a league trains: encoders, fusion, towers and heads.

Nothing is imported here: the coordinator takes the optimisers alone, and stays without torch.
"""
