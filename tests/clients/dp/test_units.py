"""Records: a user's span of days is one sample, no user has more than the contract says, none reads another."""

from __future__ import annotations

import numpy as np
import torch

from clients.data.dataset import DAY_S
from clients.dp.sample import draw_users
from clients.dp.units import as_records, unit_data, without
from tests.clients.dp.units import settings, site_for

RECORD = settings({"privacy.mode": "record", "privacy.record_days": 2, "privacy.records_per_user": 5})


def test_a_user_has_at_most_the_contracts_number_of_records() -> None:
    site = site_for(RECORD)
    data = unit_data(site, RECORD)
    owners = [data.site.user_ids[unit].split("/")[0] for unit in data.users]
    assert 1 < max(np.unique(owners, return_counts=True)[1]) <= 5
    assert data.log.time.min() >= site.split.valid_from - 10 * DAY_S
    assert data.log.time.max() < site.split.valid_from


def test_a_record_is_one_users_events_and_reviews_of_one_span() -> None:
    site, until = site_for(RECORD), site_for(RECORD).split.valid_from
    records = as_records(site, until, 2 * DAY_S)
    assert len(records.log) == len(site.log)
    span = (until - 1 - records.log.time) // (2 * DAY_S)
    for number in np.unique(records.log.user)[::7]:
        own = records.log.user == number
        assert len(set(span[own].tolist())) == 1
    before = sorted(zip(site.log.time.tolist(), site.log.item.tolist(), strict=True))
    assert sorted(zip(records.log.time.tolist(), records.log.item.tolist(), strict=True)) == before
    names = [records.user_ids[user].split("/")[0] for user in records.reviews.user]
    assert names == [site.user_ids[user] for user in site.reviews.user]


def test_one_record_fewer_changes_no_other_records_sample() -> None:
    data = unit_data(site_for(RECORD), RECORD)
    units = data.users[:12]
    less = without(data, int(units[4]), RECORD)
    before, after = (
        draw_users(each, RECORD, units, np.random.default_rng(1)).contents(each.site) for each in (data, less)
    )
    others = [n for n in range(len(units)) if n != 4]
    assert all(torch.equal(a[others], b[others]) for a, b in zip(before, after, strict=True))
    assert any(not torch.equal(a[4], b[4]) for a, b in zip(before, after, strict=True))


def test_a_record_with_reviews_only_is_a_sample_too() -> None:
    data = unit_data(site_for(RECORD), settings({"privacy.mode": "record", "privacy.records_per_user": 40}))
    lonely = [u for u in data.users if data.target_offsets[u + 1] == data.target_offsets[u]]
    assert lonely
    rows = draw_users(data, RECORD, np.array(lonely), np.random.default_rng(0))
    assert not rows.visible.any()
    assert (rows.ranks == 0).all()
    assert (rows.labels >= 0).any(1).all()
