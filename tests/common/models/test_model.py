"""Laws of the model: what is missing or masked has no influence, and what is private stays out of the sum."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from common.models.encoders import CnnImageEncoder, LstmTextEncoder
from common.models.model import (
    HansaModel,
    ItemInputs,
    PrivateParts,
    UserInputs,
    build_model,
    load_shared,
    shared_arrays,
)
from common.models.towers import N_GAP_BUCKETS, gap_bucket
from common.settings.config import ModelConfig

CONFIG = ModelConfig(item_dim=16, hidden_dim=32, projection_dim=24, categories=("a", "b", "c"))


def drawn_items(n: int = 12) -> ItemInputs:
    generator = torch.Generator().manual_seed(1)
    return ItemInputs(
        text=torch.randn(n, 20, generator=generator),
        image=torch.randn(n, 24, generator=generator),
        has_text=torch.arange(n) % 3 != 0,
        has_image=torch.arange(n) % 4 != 1,
        raw=torch.nn.functional.normalize(torch.randn(n, 6, generator=generator), dim=1),
        category=torch.arange(n) % 3,
        row=torch.arange(n),
    )


def drawn_users(n: int = 5, length: int = 6, targets: int = 2) -> UserInputs:
    generator = torch.Generator().manual_seed(2)
    return UserInputs(
        items=torch.randint(0, 12, (n, length), generator=generator),
        kinds=torch.randint(0, 5, (n, length), generator=generator),
        gaps=torch.rand(n, targets, length, generator=generator) * 1e6,
        visible=torch.rand(n, targets, length, generator=generator) < 0.5,
    )


@pytest.fixture(params=["mlp", "linear"])
def model(request: pytest.FixtureRequest) -> HansaModel:
    built = build_model(CONFIG.model_copy(update={"adapter": request.param}), 20, 24, seed=3)
    shake(built)
    return built.eval()


def shake(model: HansaModel) -> None:
    """Move every parameter off its first value, so that no zero hides an influence."""
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


@pytest.mark.parametrize("value", [0.0, 5.0, float("nan"), float("inf")])
def test_values_of_a_missing_modality_never_reach_the_vectors(model: HansaModel, value: float) -> None:
    items = drawn_items()
    other = replace(
        items,
        text=torch.where(items.has_text[:, None], items.text, value),
        image=torch.where(items.has_image[:, None], items.image, value),
    )
    assert torch.equal(model.item_vectors(items)[0], model.item_vectors(other)[0])


def test_values_of_a_modality_that_is_there_do(model: HansaModel) -> None:
    items = drawn_items()
    changed = (
        model.item_vectors(items)[0] != model.item_vectors(replace(items, text=items.text + 1))[0]
    ).any(1)
    assert torch.equal(changed, items.has_text)


def test_modality_dropout_never_hides_both() -> None:
    model = build_model(CONFIG.model_copy(update={"modality_dropout": 0.9, "dropout": 0.0}), 20, 24, seed=3)
    text, image = torch.ones(400, dtype=torch.bool), torch.ones(400, dtype=torch.bool)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        has_text, has_image = model.fusion._hide(text, image)
    assert (has_text | has_image).all()
    assert 0.3 < (~has_text).float().mean() < 0.6
    assert 0.3 < (~has_image).float().mean() < 0.6


def test_masked_events_have_no_influence(model: HansaModel) -> None:
    items, users = drawn_items(), drawn_users()
    vectors = model.item_vectors(items)[0]
    unseen = ~users.visible.any(1)
    other = replace(
        users,
        items=torch.where(unseen, (users.items + 5) % 12, users.items),
        kinds=torch.where(unseen, (users.kinds + 1) % 5, users.kinds),
        gaps=torch.where(users.visible, users.gaps, users.gaps * 7 + 60),
    )
    assert unseen.any()
    for a, b in zip(
        model.user_vectors(users, vectors, items.raw),
        model.user_vectors(other, vectors, items.raw),
        strict=True,
    ):
        assert torch.equal(a, b)


def test_a_user_without_visible_events_is_the_same_for_all(model: HansaModel) -> None:
    items, users = drawn_items(), drawn_users()
    blind = replace(users, visible=torch.zeros_like(users.visible))
    weights = model.user_tower.weights(blind.kinds, blind.gaps, blind.visible)
    assert torch.equal(weights, torch.zeros_like(weights))
    learned, untrained = model.user_vectors(blind, model.item_vectors(items)[0], items.raw)
    assert torch.equal(untrained, torch.zeros_like(untrained))
    assert torch.equal(learned, learned[:1, :1].expand_as(learned))


def test_visible_weights_sum_to_one(model: HansaModel) -> None:
    users = drawn_users()
    weights = model.user_tower.weights(users.kinds, users.gaps, users.visible)
    seen = users.visible.any(2)
    assert torch.allclose(weights.sum(2)[seen], torch.ones(int(seen.sum())))
    assert (weights[~users.visible] == 0).all()


def test_a_linear_model_learns_nothing_but_adapters_and_heads() -> None:
    model = build_model(CONFIG.model_copy(update={"adapter": "linear"}), 20, 24, seed=3)
    learned = {name.split(".")[0] for name in model.shared_parameters()}
    assert learned == {"text_adapter", "image_adapter", "behaviour", "sentiment", "category"}
    adapters = [p.numel() for name, p in model.shared_parameters().items() if "adapter" in name]
    assert sum(adapters) == (20 + 24) * CONFIG.item_dim


@pytest.mark.parametrize(("text", "image"), [(True, True), (True, False), (False, True), (False, False)])
def test_a_linear_model_fuses_by_the_mean_of_what_is_there(text: bool, image: bool) -> None:
    model = build_model(CONFIG.model_copy(update={"adapter": "linear"}), 20, 24, seed=3).eval()
    items = drawn_items()
    there = torch.ones(12, dtype=torch.bool)
    items = replace(items, has_text=there & text, has_image=there & image)
    parts = [model.text_adapter(items.text)] * text + [model.image_adapter(items.image)] * image
    mean = sum(parts, torch.zeros(12, 16)) / max(1, len(parts))
    found = model.item_vectors(items)[0]
    torch.testing.assert_close(found, torch.nn.functional.normalize(mean, dim=1))


def test_gap_buckets_grow_with_the_gap() -> None:
    buckets = gap_bucket(torch.tensor([-5.0, 0.0, 59.0, 60.0 * 3, 60.0 * 15, 3e9]))
    assert buckets.tolist() == [0, 0, 0, 1, 2, N_GAP_BUCKETS - 1]


def test_shared_parameters_leave_out_the_private(model: HansaModel) -> None:
    before = list(model.shared_parameters())
    model.private = PrivateParts(torch.ones(12), CONFIG.item_dim)
    assert list(model.shared_parameters()) == before
    assert {n for n, _ in model.named_parameters()} - set(before) == {"private.residual"}
    items = drawn_items()
    plain = model.item_vectors(items)[0]
    with torch.no_grad():
        model.private.residual += 1
    assert not torch.equal(model.item_vectors(items)[0], plain)


def test_there_are_no_buffers() -> None:
    for encoders in ("frozen", "scratch"):
        config = CONFIG.model_copy(update={"encoders": encoders, "token_buckets": 256})
        assert list(build_model(config, 20, 24, seed=0).named_buffers()) == []


def test_equal_seeds_give_equal_models_and_leave_the_global_generator_alone() -> None:
    state = torch.random.get_rng_state()
    first, second = (shared_arrays(build_model(CONFIG, 20, 24, seed=5)) for _ in range(2))
    other = shared_arrays(build_model(CONFIG, 20, 24, seed=6))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all((first[n] == second[n]).all() for n in first)
    assert any((first[n] != other[n]).any() for n in first)


def test_shared_arrays_are_copies_that_load_back(model: HansaModel) -> None:
    arrays = shared_arrays(model)
    fresh = build_model(model.config, 20, 24, seed=8)
    load_shared(fresh, arrays)
    arrays["category.bias"] += 1
    assert torch.equal(model.category.bias, fresh.category.bias)
    assert not (arrays["category.bias"] == fresh.category.bias.detach().numpy()).any()
    items = drawn_items()
    assert torch.equal(fresh.eval().item_vectors(items)[0], model.item_vectors(items)[0])


def test_untrained_score_takes_no_part_in_scratch_scores() -> None:
    config = CONFIG.model_copy(update={"encoders": "scratch", "token_buckets": 256})
    scratch = build_model(config, 20, 24, seed=0)
    learned, vectors = torch.randn(2, 1, 16), torch.randn(4, 16)
    scores = [
        scratch.scores(learned, u, vectors, torch.randn(4, 6))
        for u in (torch.zeros(2, 1, 6), torch.ones(2, 1, 6))
    ]
    assert torch.equal(scores[0], scores[1])


def padded(rows: list[list[int]], length: int) -> Tensor:
    return torch.tensor([row + [0] * (length - len(row)) for row in rows])


def test_the_scratch_text_encoder_ignores_padding() -> None:
    torch.random.manual_seed(0)
    encoder = LstmTextEncoder(256).eval()
    rows = [[3, 4, 5], [7], []]
    short, long = encoder(padded(rows, 4)), encoder(padded(rows, 19))
    assert torch.allclose(short, long, atol=1e-6)
    assert torch.equal(short[2], torch.zeros_like(short[2]))
    assert not torch.allclose(short[0], encoder(padded([[5, 4, 3], [7], []], 4))[0])


def test_the_scratch_image_encoder_reads_pictures_one_by_one() -> None:
    torch.random.manual_seed(0)
    encoder = CnnImageEncoder().eval()
    pictures = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    together = encoder(pictures)
    assert torch.allclose(together[1:2], encoder(pictures[1:2]), atol=1e-5)
    assert not torch.allclose(together[0], together[1], atol=1e-3)
