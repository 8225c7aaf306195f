"""What a site may spend: never over, never forgotten, always with the reason."""

from __future__ import annotations

import math
from datetime import timedelta
from pathlib import Path

import pytest

from clients.ledger import Budget, Charge, Ledger, open_ledger
from clients.ledger.stores import FolderStore
from clients.vault import RoleKey, Vault
from common.crypto.keys import lock
from common.errors import PrivacyError
from common.privacy.accounting import Mechanism, epsilon_rdp
from common.privacy.receipts import LedgerHead
from common.schema import PolicySection
from tests.clients.ledger.helpers import WHOLE, Hands, ask_until_refused, in_folder, new_vault, wish

SECRET = b"correct horse battery"


def test_it_grants_up_to_the_budget_and_then_says_what_is_spent_asked_and_left(tmp_path: Path) -> None:
    ledger = in_folder(tmp_path)
    answered: list[int] = []
    with pytest.raises(PrivacyError) as refusal:
        ask_until_refused(ledger, 0.5, answered)
    granted = len(answered)
    spent = epsilon_rdp([Mechanism.pure(0.5, steps=granted)], 1e-5)
    more = epsilon_rdp([Mechanism.pure(0.5, steps=granted + 1)], 1e-5)
    assert spent <= 3.0 < more
    told = refusal.value
    assert told.what == "the site's privacy budget is spent"
    assert f"spent {spent:.3f} of epsilon 3" in told.why
    assert f"asks for {more - spent:.3f} more, left {3 - spent:.3f}" in told.why
    assert "site.toml" in told.next_step
    assert ledger.balance().spent == spent
    assert ledger.balance().left == 3.0 - spent
    assert len(ledger.book().debits) == granted


def test_each_entry_says_what_it_cost_whom_and_against_whom(tmp_path: Path) -> None:
    ledger = in_folder(tmp_path)
    asked = Charge(
        "statistics", Mechanism.gaussian(20.0, sample_rate=0.1, steps=3), run="r", league="l", round=4
    )
    debit = ledger.debit(asked)
    (again,) = in_folder(tmp_path).book().debits
    assert again == debit
    assert again.charge == asked
    assert (again.charge.unit, again.charge.relation, again.charge.delta) == ("user", "add-remove", 1e-5)
    assert "coordinator" in again.charge.adversary
    assert 0 < again.epsilon_pld <= again.epsilon_rdp


def test_runs_leagues_and_purposes_count_together(tmp_path: Path) -> None:
    for number, purpose in enumerate(("training", "statistics", "metrics", "tuning", "release")):
        asked = Charge(purpose, Mechanism.pure(0.3), run=str(number), league=str(number))  # type: ignore[arg-type]
        in_folder(tmp_path).debit(asked)
    assert in_folder(tmp_path).balance().spent == epsilon_rdp([Mechanism.pure(0.3, steps=5)], 1e-5)


def test_one_debit_pays_for_one_output(tmp_path: Path) -> None:
    ledger, asked = in_folder(tmp_path), wish()
    first = ledger.reserve(asked)
    assert ledger.reserve(asked) == first  # killed before it told anything: the same debit serves
    ledger.tell(asked, "digest")
    ledger.tell(asked, "digest")
    assert ledger.reserve(asked).n > first.n  # what was told is paid for; another output is not
    ledger.tell(asked, "other")
    with pytest.raises(PrivacyError, match="no debit"):
        ledger.tell(asked, "a third")
    with pytest.raises(PrivacyError, match="no debit"):
        ledger.tell(wish(2), "digest")


def test_the_contract_of_a_run_is_a_second_limit(tmp_path: Path) -> None:
    ledger = in_folder(tmp_path)
    asked = Charge("training", Mechanism.pure(0.5), run="one", run_epsilon=0.6)
    ledger.debit(asked)
    with pytest.raises(PrivacyError, match="run's privacy budget") as refusal:
        ledger.debit(asked)
    assert "spent 0.503 of epsilon 0.6" in refusal.value.why
    ledger.debit(Charge("training", Mechanism.pure(0.5), run="two", run_epsilon=0.6))


def test_a_smaller_budget_counts_at_once_and_none_is_the_leagues_own(tmp_path: Path) -> None:
    in_folder(tmp_path).debit(wish(1, epsilon=1.0))
    with pytest.raises(PrivacyError, match="spent"):
        in_folder(tmp_path, Budget(1.1, 1e-5)).debit(wish(2, epsilon=1.0))
    unlimited = in_folder(tmp_path, Budget.of(PolicySection(ledger="run")))
    unlimited.debit(wish(2, epsilon=5.0))
    assert unlimited.balance().left is None
    assert unlimited.budget.rounds_left([], Mechanism.pure(1.0)) is None
    assert Budget.of(PolicySection()).epsilon == 8.0
    assert Budget.of(PolicySection(ledger="run", epsilon=2.0)).epsilon == 2.0
    assert math.isinf(unlimited.budget.epsilon)


def test_rounds_left_are_as_many_as_the_gate_grants(tmp_path: Path) -> None:
    each = Mechanism.gaussian(6.0)
    left = WHOLE.rounds_left([Mechanism.pure(0.4)], each)
    assert left is not None
    assert 0 < left < 100
    ledger = in_folder(tmp_path)
    ledger.debit(wish(0, epsilon=0.4))
    for round_ in range(1, left + 1):
        ledger.debit(Charge("training", each, round=round_))
    with pytest.raises(PrivacyError):
        ledger.debit(Charge("training", each))
    assert WHOLE.rounds_left([Mechanism.pure(3.1)], each) == 0


def test_units_are_told_for_one_user_or_not_at_all() -> None:
    noise = Mechanism.gaussian(4.0, sample_rate=0.5)
    assert Charge("training", noise).for_user() == noise
    four = Charge("training", noise, unit="record", records_per_user=4).for_user()
    assert four == Mechanism.gaussian(1.0, sample_rate=1 - 0.5**4)
    assert Charge("training", Mechanism.gaussian(4.0), unit="site").for_user() == Mechanism.gaussian(2.0)
    assert Charge("metrics", Mechanism.pure(0.1), unit="record", records_per_user=3).for_user().noise == (
        pytest.approx(0.3)
    )
    for unit, cap in (("record", 0), ("site", 1)):
        with pytest.raises(PrivacyError, match="one user"):
            Charge("training", noise, unit=unit, records_per_user=cap).for_user()  # type: ignore[arg-type]


def test_a_period_renews_and_says_when(tmp_path: Path) -> None:
    hands, budget = Hands(), Budget(1.0, 1e-5, period_days=30)
    ledger = in_folder(tmp_path, budget, hands)
    ledger.debit(wish(1, epsilon=0.9))
    hands.turn(wall=timedelta(days=29), up=timedelta(days=29))
    with pytest.raises(PrivacyError, match="spent") as refusal:
        ledger.debit(wish(2, epsilon=0.9))
    assert "2030-01-31 12:00 UTC" in refusal.value.next_step
    hands.turn(wall=timedelta(days=2), up=timedelta(days=2))
    assert ledger.balance().spent == 0
    ledger.debit(wish(2, epsilon=0.9))
    assert ledger.balance().spent == pytest.approx(0.9, abs=0.01)


def test_what_was_reserved_counts_until_its_output_has_left_the_period(tmp_path: Path) -> None:
    hands, budget = Hands(), Budget(1.0, 1e-5, period_days=30)
    ledger = in_folder(tmp_path, budget, hands)
    asked = wish(1, epsilon=0.9)
    ledger.reserve(asked)
    hands.turn(wall=timedelta(days=40), up=timedelta(days=40))
    assert ledger.balance().spent > 0.8
    ledger.tell(asked, "digest")
    hands.turn(wall=timedelta(days=29), up=timedelta(days=29))
    assert ledger.balance().spent > 0.8
    hands.turn(wall=timedelta(days=2), up=timedelta(days=2))
    assert ledger.balance().spent == 0


def test_turning_the_clock_renews_nothing(tmp_path: Path) -> None:
    hands, budget = Hands(), Budget(1.0, 1e-5, period_days=30)
    ledger = in_folder(tmp_path, budget, hands)
    ledger.debit(wish(1, epsilon=0.9))
    for turn in (timedelta(days=400), timedelta(days=-4000), timedelta(days=3600)):
        hands.turn(wall=turn, up=timedelta(minutes=1))
        with pytest.raises(PrivacyError, match="spent"):
            ledger.debit(wish(2, epsilon=0.9))
    ledger.debit(wish(3, epsilon=0.05))
    times = [debit.at for debit in ledger.book().debits]
    assert timedelta(0) <= times[1] - times[0] <= timedelta(minutes=3)
    hands.turn(
        wall=timedelta(days=-500), boot="another", up=timedelta(days=-1)
    )  # a restart with a flat battery
    ledger.debit(wish(4, epsilon=0.01))
    assert ledger.book().debits[-1].at == times[1]


def test_a_newer_receipt_an_other_ledger_and_a_lost_one_are_refused(tmp_path: Path) -> None:
    ledger = in_folder(tmp_path / "site")
    ledger.debit(wish(1))
    older = ledger.head()
    ledger.require(older)
    ledger.debit(wish(2))
    ledger.require(older)
    for head in (
        LedgerHead(older.ledger, 7, "0" * 64),
        LedgerHead(older.ledger, 1, "0" * 64),
        LedgerHead("f" * 32, 1, older.hash),
    ):
        with pytest.raises(PrivacyError, match="older than what the coordinator has seen") as refusal:
            ledger.require(head)
        assert "budget lost" in refusal.value.next_step
    with pytest.raises(PrivacyError, match="older"):
        in_folder(tmp_path / "empty").require(older)


def test_a_restored_backup_is_refused_until_the_owner_writes_the_budget_off(tmp_path: Path) -> None:
    ledger = in_folder(tmp_path)
    ledger.debit(wish(1))
    backup = {path.name: path.read_bytes() for path in (tmp_path / "ledger").iterdir()}
    ledger.debit(wish(2))
    seen = ledger.head()
    for name, data in backup.items():
        (tmp_path / "ledger" / name).write_bytes(data)
    with pytest.raises(PrivacyError, match="older"):
        ledger.require(seen)
    ledger.write_off()
    ledger.require(seen)  # the loss stands in the ledger now
    assert ledger.balance().left == 0
    with pytest.raises(PrivacyError, match="spent"):
        ledger.debit(wish(3, epsilon=0.001))
    in_folder(tmp_path, Budget(9.0, 1e-5)).debit(wish(3))  # the owner alone may grant more


def test_a_missing_file_is_not_an_empty_ledger(tmp_path: Path) -> None:
    for number, name in enumerate(("ledger.jsonl", "ledger.key", "ledger.anchor")):
        ledger = in_folder(tmp_path / str(number))
        ledger.debit(wish())
        (tmp_path / str(number) / "ledger" / name).unlink()
        with pytest.raises(PrivacyError, match="edited or is damaged") as refusal:
            ledger.debit(wish(2))
        assert "missing" in refusal.value.why
        ledger.write_off()
        assert ledger.balance().left == 0
        assert list((tmp_path / str(number)).glob("ledger.damaged-*"))


def test_every_edited_byte_is_noticed(tmp_path: Path) -> None:
    ledger = in_folder(tmp_path)
    ledger.debit(wish())
    for name in ("ledger.jsonl", "ledger.anchor"):
        path = tmp_path / "ledger" / name
        whole = path.read_bytes()
        for at in range(len(whole)):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 + at % 255)]) + whole[at + 1 :])
            with pytest.raises(PrivacyError, match="edited"):
                ledger.balance()
        path.write_bytes(whole)
    assert len(ledger.book().debits) == 1


def test_cut_moved_and_doubled_lines_are_noticed(tmp_path: Path) -> None:
    ledger = in_folder(tmp_path)
    for round_ in (1, 2, 3):
        ledger.debit(wish(round_))
    path = tmp_path / "ledger" / "ledger.jsonl"
    one, two, three, four = path.read_bytes().splitlines(keepends=True)
    for lines in (
        [one, two, three],
        [one],
        [],
        [one, two, four],
        [one, three, two, four],
        [one, two, three, four, four],
    ):
        path.write_bytes(b"".join(lines))
        with pytest.raises(PrivacyError, match="edited"):
            ledger.debit(wish(4))


def test_a_torn_line_was_never_granted_and_is_kept_aside(tmp_path: Path) -> None:
    ledger = in_folder(tmp_path)
    ledger.debit(wish(1))
    with (tmp_path / "ledger" / "ledger.jsonl").open("ab") as file:
        file.write(b'{"at":"torn')
    assert len(ledger.book().debits) == 1
    ledger.debit(wish(2))
    assert len(ledger.book().debits) == 2
    assert (tmp_path / "ledger" / "ledger.jsonl.torn").read_bytes() == b'{"at":"torn\n'


def test_an_anchor_one_behind_is_a_crash_and_nothing_else(tmp_path: Path) -> None:
    ledger = in_folder(tmp_path)
    anchor = tmp_path / "ledger" / "ledger.anchor"
    ledger.debit(wish(1))
    behind = anchor.read_bytes()
    ledger.debit(wish(2))
    anchor.write_bytes(behind)
    assert len(ledger.book().debits) == 2
    ledger.debit(wish(3))
    assert anchor.read_bytes() != behind


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    in_folder(tmp_path).debit(wish())
    assert (tmp_path / "ledger").stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "ledger").iterdir())


def test_where_a_sites_ledger_lies(tmp_path: Path) -> None:
    site, run = tmp_path / "site", tmp_path / "run"
    site.mkdir()
    for policy, where in (
        ("", site / "ledger"),
        ('[policy]\nledger = "../elsewhere"\n', site / "../elsewhere"),
        ('[policy]\nledger = "run"\n', run / "ledger"),
    ):
        (site / "site.toml").write_text(f'name = "amber"\n{policy}')
        with open_ledger(site, run) as ledger:
            assert isinstance(ledger, Ledger)
            ledger.debit(wish())
        assert FolderStore(where).exists()


def test_the_ledger_of_a_site_with_a_vault_lies_in_the_vault(tmp_path: Path) -> None:
    site = tmp_path / "site"
    keys = {role: RoleKey.generate(role) for role in ("owner", "trainer")}
    new_vault(site / "vault", keys)
    for role, key in keys.items():
        lock(tmp_path / f"{role}.key", key, SECRET)
    (tmp_path / "trainer.pass").write_bytes(SECRET)
    (tmp_path / "trainer.pass").chmod(0o600)
    (site / "site.toml").write_text(
        'name = "amber"\n[policy]\nepsilon = 1.0\n[vault]\npath = "vault"\nkey = "../trainer.key"\n'
        'passphrase = "file:../trainer.pass"\n'
    )
    for round_ in (1, 2):
        with open_ledger(site, tmp_path / f"run{round_}") as ledger:
            ledger.debit(wish(round_, epsilon=0.4))
    with open_ledger(site, None) as ledger, pytest.raises(PrivacyError, match="spent"):
        ledger.debit(wish(3, epsilon=0.4))
    assert not (site / "ledger").exists()
    with Vault.open(site / "vault", keys["owner"]) as vault:
        assert vault.names("ledger") == ["lines-00000"]
    everything = b"".join(path.read_bytes() for path in (site / "vault").rglob("*") if path.is_file())
    assert b"epsilon_rdp" not in everything  # sealed, not merely kept
