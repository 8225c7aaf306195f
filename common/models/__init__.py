"""The model that a league trains: encoders, fusion, towers and heads."""

from common.models.model import HansaModel, ItemInputs, UserInputs, build_model

__all__ = ["HansaModel", "ItemInputs", "UserInputs", "build_model"]
