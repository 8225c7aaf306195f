"""Kills, crowds, full disks and edits, in a folder and in a vault: never over budget, nothing forgotten, and why."""

from __future__ import annotations

import os
import random
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from clients.dp import NoisyOutputs
from clients.ledger import Budget, Charge, Ledger
from clients.ledger.rounds import paid_round
from clients.secagg.shared_noise import digest_of
from clients.vault import RoleKey, Vault
from common.crypto.fields import Integers
from common.errors import PrivacyError
from common.files import append_line, read_lines
from common.privacy.accounting import Mechanism, epsilon_rdp
from common.protocol.wire import FloatVector, vector_digest
from tests.clients.ledger.helpers import (
    WHOLE,
    ask_until_refused,
    exit_code,
    forked,
    in_folder,
    in_vault,
    new_vault,
    wish,
)

PLACES = ("folder", "vault")


@pytest.fixture(scope="module")
def keys() -> dict[str, RoleKey]:
    return {role: RoleKey.generate(role) for role in ("owner", "trainer", "analyst", "auditor")}


@contextmanager
def opened(place: str, root: Path, keys: dict[str, RoleKey], budget: Budget = WHOLE) -> Iterator[Ledger]:
    """The ledger of a test, opened anew as each process does."""
    if place != "vault":
        yield in_folder(root, budget)
        return
    if not (root / "vault").exists():
        new_vault(root / "vault", keys)
    with Vault.open(root / "vault", keys["trainer"]) as vault:
        yield in_vault(vault, budget)


def granted_at_most(budget: float, epsilon: float) -> int:
    """How many pure answers of that ε the budget holds."""
    count = 0
    while epsilon_rdp([Mechanism.pure(epsilon, steps=count + 1)], 1e-5) <= budget:
        count += 1
    return count


def _site(place: str, root: Path, keys: dict[str, RoleKey], rounds: int) -> None:
    """A site that is asked for round after round; what left it stands in `left.jsonl`, as the coordinator's copy."""
    kept = NoisyOutputs(root / "updates")
    done = {line["round"] for line in read_lines(root / "left.jsonl")}
    for round_ in range(1, rounds + 1):
        if round_ in done:
            continue
        with opened(place, root, keys) as ledger:
            received = np.full(4, round_, np.float32)
            asked = wish(round_, epsilon=0.1)
            digest = _answered(ledger, kept, asked, received, shared=place == "shared")
        append_line(root / "left.jsonl", {"round": round_, "digest": digest})


def _answered(
    ledger: Ledger, kept: NoisyOutputs, asked: Charge, received: FloatVector, *, shared: bool
) -> str:
    """The digest of what leaves: a noisy update, or whole numbers with the site's part of shared noise."""
    chance, left = np.random.default_rng(), [""]

    def noisy(update: FloatVector, pay: Callable[[], object]) -> str:
        def draw() -> Integers:
            pay()
            return chance.integers(0, 1 << 40, 4)

        left[0] = digest_of(kept.whole_once(asked.round, b"c" * 32, 4, draw))
        return left[0]

    train = lambda: chance.normal(size=4).astype("f4")  # noqa: E731
    update = paid_round(ledger, kept, asked, received, train, noisy if shared else None)
    return left[0] or vector_digest(update)


def _killed(place: str, root: Path, keys: dict[str, RoleKey], kills: int) -> None:
    chance = random.Random(5)
    enough = granted_at_most(WHOLE.epsilon, 0.1)
    hits, code = 0, 1
    with opened(place, root, keys) as ledger:
        ledger.book()
    for _ in range(40 * kills):
        child = forked(lambda: _site(place, root, keys, enough + 5))
        time.sleep(chance.uniform(0.0, 0.12 if place == "vault" else 0.03))
        os.kill(child, signal.SIGKILL)
        code = exit_code(child)
        hits += code == -signal.SIGKILL
        if hits == kills or code == 10:
            break
    assert hits == kills
    assert (
        exit_code(forked(lambda: _site(place, root, keys, enough + 5))) == 10
    )  # the budget ends it, in the end
    left = read_lines(root / "left.jsonl")
    with opened(place, root, keys) as ledger:
        book = ledger.book()
        assert ledger.balance(book).spent <= WHOLE.epsilon
        told = {digest for _, digest in book.told.values()}
        assert {line["digest"] for line in left} <= told
        assert len(told) == len(book.told) == len(book.debits) == enough  # no debit twice, none forgotten
        assert [line["round"] for line in left] == list(range(1, enough + 1))
        with pytest.raises(PrivacyError, match="the site's privacy budget is spent"):
            ledger.debit(wish(99))


@pytest.mark.parametrize("place", ["folder", "shared"])
def test_a_site_that_is_killed_spends_each_round_once(
    place: str, tmp_path: Path, keys: dict[str, RoleKey]
) -> None:
    _killed(place, tmp_path, keys, kills=6)


@pytest.mark.slow
@pytest.mark.parametrize("place", [*PLACES, "shared"])
def test_a_site_that_is_killed_at_fifty_random_moments_spends_each_round_once(
    place: str, tmp_path: Path, keys: dict[str, RoleKey]
) -> None:
    _killed(place, tmp_path, keys, kills=50)


@pytest.mark.parametrize("place", [PLACES[0], pytest.param(PLACES[1], marks=pytest.mark.slow)])
def test_sixty_four_at_once_get_what_the_budget_holds_and_no_more(
    place: str, tmp_path: Path, keys: dict[str, RoleKey]
) -> None:
    enough = granted_at_most(WHOLE.epsilon, 0.5)
    with opened(place, tmp_path, keys) as ledger:
        ledger.book()

    def ask(number: int) -> None:
        with opened(place, tmp_path, keys) as mine:
            mine.debit(wish(number))

    codes = [exit_code(child) for child in [forked(lambda n=n: ask(n)) for n in range(64)]]  # type: ignore[misc]
    assert codes.count(0) == enough
    assert codes.count(10) == 64 - enough
    with opened(place, tmp_path, keys) as ledger:
        assert len(ledger.book().debits) == enough
        assert ledger.balance().spent <= WHOLE.epsilon


def test_sixty_four_that_are_asked_for_the_same_round_tell_the_same_once(tmp_path: Path) -> None:
    def answer() -> None:
        train = np.random.default_rng().normal(size=4).astype("f4")
        update = paid_round(
            in_folder(tmp_path),
            NoisyOutputs(tmp_path / "updates"),
            wish(),
            np.zeros(4, np.float32),
            lambda: train,
        )
        append_line(tmp_path / "left.jsonl", {"digest": vector_digest(update)})

    codes = [exit_code(child) for child in [forked(answer) for _ in range(64)]]
    assert codes == [0] * 64
    assert len({line["digest"] for line in read_lines(tmp_path / "left.jsonl")}) == 1
    assert len(in_folder(tmp_path).book().debits) == 1


def test_kept_bytes_do_not_leave_without_their_debit(tmp_path: Path) -> None:
    kept, received = NoisyOutputs(tmp_path / "updates"), np.zeros(4, np.float32)

    def once(root: Path) -> None:
        paid_round(in_folder(root), kept, wish(), received, lambda: np.ones(4, np.float32))

    once(tmp_path)
    once(tmp_path)  # asked for again: the same bytes, no new debit
    assert len(in_folder(tmp_path).book().debits) == 1
    with pytest.raises(PrivacyError, match="no debit"):
        once(tmp_path / "without the ledger")


def test_bytes_that_are_gone_cost_again(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        kept = NoisyOutputs(tmp_path / folder)
        paid_round(in_folder(tmp_path), kept, wish(), np.zeros(4, np.float32), lambda: np.ones(4, np.float32))
    assert len(in_folder(tmp_path).book().debits) == 2


@pytest.mark.parametrize("gone", ["whole", "update", "whole and update"])
def test_shared_noise_that_is_gone_costs_again_whatever_else_is_left(gone: str, tmp_path: Path) -> None:
    kept, received = NoisyOutputs(tmp_path / "updates"), np.zeros(4, np.float32)

    def asked() -> str:
        return _answered(in_folder(tmp_path), kept, wish(), received, shared=True)

    first = asked()
    assert asked() == first  # kept: the same numbers, the same debit
    assert len(in_folder(tmp_path).book().debits) == 1
    for ending in gone.split(" and "):
        (tmp_path / "updates" / f"round-00001.{ending}").unlink()
    second = asked()
    book = in_folder(tmp_path).book()
    assert len(book.debits) == 2  # an update that is trained anew is paid too, though its noise is kept
    assert (second == first) == (gone == "update")
    assert {digest for _, digest in book.told.values()} == {first, second}


@pytest.mark.parametrize("place", PLACES)
def test_a_full_disk_grants_nothing_and_breaks_nothing(
    place: str, tmp_path: Path, keys: dict[str, RoleKey]
) -> None:
    with opened(place, tmp_path, keys) as ledger:
        ledger.debit(wish(1))
    names = ("ledger/ledger.jsonl", "vault/audit.jsonl")
    size = (tmp_path / names[PLACES.index(place)]).stat().st_size

    def ask_on_a_full_disk(room: int) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, size + room))
        with opened(place, tmp_path, keys) as mine:
            mine.debit(wish(2))

    codes = [exit_code(forked(lambda r=room: ask_on_a_full_disk(r))) for room in (0, 1, 40)]  # type: ignore[misc]
    assert set(codes) <= {10, 1}  # a vault whose log can't be written isn't even opened
    if place == "folder":
        assert codes == [10, 10, 10]
    with opened(place, tmp_path, keys) as ledger:
        assert len(ledger.book().debits) == 1
        ledger.debit(wish(3))
        assert len(ledger.book().debits) == 2


def test_a_small_disk_that_fills_up(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or os.system(f"mount -t tmpfs -o size=64k tmpfs {disk} 2>/dev/null") != 0:  # noqa: S605
        pytest.skip("this machine doesn't let a test mount a small disk")
    try:
        granted: list[int] = []
        with pytest.raises(PrivacyError, match="can't be written") as refusal:
            ask_until_refused(in_folder(disk, Budget(1000.0, 1e-5)), 0.01, granted)
        assert "No space left" in refusal.value.why
        assert len(in_folder(disk).book().debits) - len(granted) in (
            0,
            1,
        )  # the last may stand there, granted or not
    finally:
        os.system(f"umount {disk}")  # noqa: S605


@pytest.mark.slow
def test_every_edited_byte_of_a_vaults_ledger_is_noticed(tmp_path: Path, keys: dict[str, RoleKey]) -> None:
    with opened("vault", tmp_path, keys) as ledger:
        ledger.debit(wish())
    files = [*(tmp_path / "vault" / "ledger").glob("*.hve"), tmp_path / "vault" / "ledger.anchor"]
    assert len(files) == 3
    for path in files:
        whole = path.read_bytes()
        for at in range(len(whole)):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 + at % 255)]) + whole[at + 1 :])
            with opened("vault", tmp_path, keys) as ledger, pytest.raises(PrivacyError, match="edited"):
                ledger.balance()
        path.write_bytes(whole)


def test_an_older_index_and_a_deleted_ledger_of_a_vault_are_noticed(
    tmp_path: Path, keys: dict[str, RoleKey]
) -> None:
    with opened("vault", tmp_path, keys) as ledger:
        ledger.debit(wish(1))
    folder = tmp_path / "vault" / "ledger"
    backup = {path.name: path.read_bytes() for path in folder.iterdir()}
    with opened("vault", tmp_path, keys) as ledger:
        ledger.debit(wish(2))
    now = {path.name: path.read_bytes() for path in folder.iterdir()}
    for files in (backup, {}):
        for path in folder.iterdir():
            path.unlink()
        for name, data in files.items():
            (folder / name).write_bytes(data)
        with opened("vault", tmp_path, keys) as ledger, pytest.raises(PrivacyError, match="edited"):
            ledger.debit(wish(3))
    anchor = tmp_path / "vault" / "ledger.anchor"
    kept = anchor.read_bytes()
    anchor.unlink()
    with opened("vault", tmp_path, keys) as ledger, pytest.raises(PrivacyError, match="edited"):
        ledger.debit(wish(3))  # the vault's log knows of entries
    anchor.write_bytes(kept)
    for name, data in now.items():
        (folder / name).write_bytes(data)
    with opened("vault", tmp_path, keys) as ledger:
        ledger.debit(wish(3))


def test_the_matrix_says_who_may_read_and_who_may_spend(tmp_path: Path, keys: dict[str, RoleKey]) -> None:
    with opened("vault", tmp_path, keys) as ledger:
        ledger.debit(wish(1))
    for role, reads, spends in (("auditor", True, False), ("analyst", False, False), ("owner", True, True)):
        with Vault.open(tmp_path / "vault", keys[role]) as vault:
            ledger = in_vault(vault)
            if reads:
                assert len(ledger.book().debits) == 1
            else:
                with pytest.raises(PrivacyError, match="edited or is damaged"):
                    ledger.book()
            if spends:
                ledger.debit(wish(2))
            else:
                with pytest.raises(PrivacyError):
                    ledger.debit(wish(2))
    with opened("vault", tmp_path, keys) as ledger:
        assert len(ledger.book().debits) == 2


def test_a_long_ledger_lies_in_parts(
    tmp_path: Path, keys: dict[str, RoleKey], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clients.ledger.stores.PART_LINES", 3)
    for round_ in range(7):
        with opened("vault", tmp_path, keys) as ledger:
            ledger.debit(wish(round_, epsilon=0.01))
    with Vault.open(tmp_path / "vault", keys["auditor"]) as vault:
        assert vault.names("ledger") == ["lines-00000", "lines-00001", "lines-00002"]
        assert [debit.charge.round for debit in in_vault(vault).book().debits] == list(range(7))
