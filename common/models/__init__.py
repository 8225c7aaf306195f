"""The model that a league trains: encoders, fusion, towers and heads (DESIGN §4)."""

from common.models.model import HansaModel, ItemInputs, UserInputs, build_model

__all__ = ["HansaModel", "ItemInputs", "UserInputs", "build_model"]
