"""The knobs of the synthetic league.

Invariant: the configuration alone decides every byte that `write_league` writes.

>>> BazaarConfig().n_sites, BazaarConfig(preset="rich").users_per_site
(15, 1500)
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from common.errors import ConfigError

Preset = Literal["thin", "rich"]
LanguageMix = Literal["mixed", "en", "zh"]

_PRESETS: dict[str, dict[str, float]] = {
    "thin": {"n_sites": 15, "users_per_site": 350, "items_per_site": 320, "sessions_per_user": 4.5},
    "rich": {"n_sites": 4, "users_per_site": 1500, "items_per_site": 400, "sessions_per_user": 15.0},
}


class BazaarConfig(BaseModel):
    """What the synthetic league is like. Sizes are means over merchants; `skew` spreads them.

    Parameters
    ----------
    preset : "thin" (many merchants with few users) or "rich" (few merchants with many users); it fills in
        ``n_sites``, ``users_per_site``, ``items_per_site`` and ``sessions_per_user`` where they are not given.
    held_out : merchants beyond ``n_sites`` that take no part in training.
    skew : 0 makes merchants alike; 1 spreads their sizes, assortments and customers' tastes widely.
    text_signal, image_signal, review_signal : correlation of texts, pictures and reviews with the truth, 0 to 1.
    missing_modalities : share of merchants that lack one of pictures, reviews, text (in turn).
    fake_reviews : share of all reviews that are templated praise by accounts that never bought.
    languages : every second merchant Chinese ("mixed"), or one language only.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(0, ge=0, lt=1 << 31)
    preset: Preset = "thin"
    n_sites: int = Field(15, ge=1, le=1000)
    held_out: int = Field(1, ge=0, le=100)
    users_per_site: int = Field(350, ge=2, le=100_000)
    items_per_site: int = Field(320, ge=4, le=20_000)
    sessions_per_user: float = Field(4.5, gt=0, le=500)
    days: int = Field(60, ge=10, le=730)
    skew: float = Field(0.3, ge=0, le=1)
    text_signal: float = Field(0.95, ge=0, le=1)
    image_signal: float = Field(0.95, ge=0, le=1)
    review_signal: float = Field(0.85, ge=0, le=1)
    missing_modalities: float = Field(0.0, ge=0, le=1)
    fake_reviews: float = Field(0.05, ge=0, le=0.9)
    languages: LanguageMix = "mixed"

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {**_PRESETS.get(str(data.get("preset", "thin")), {}), **data}


def load_bazaar_config(settings: dict[str, Any]) -> BazaarConfig:
    """Check settings that a person wrote.

    Raises
    ------
    ConfigError : a setting is unknown or out of range.
    """
    try:
        return BazaarConfig.model_validate(settings)
    except ValidationError as fault:
        first = fault.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"bazaar setting '{name}' is {first['input']!r}",
            where="bazaar",
            why=first["msg"],
            next_step="known settings: " + ", ".join(BazaarConfig.model_fields),
        ) from None
