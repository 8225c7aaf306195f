"""Who is let into a run: clocks that go right, names that are members', and sites that come later."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from flwr.app import Context, Error, Message, RecordDict, UserConfig

from clients.app import app as honest
from common.errors import QuorumError, RunError, WireError
from common.files import read_lines
from common.flower.simulation import COORDINATOR, RUN_ID, become
from common.protocol import wire
from common.runtime.progress import RoundProgress
from common.settings.load import load_config
from common.storage.run_folder import RunFolder, SiteEntry
from server.app import app as coordinator
from server.messages.screen import Expected, screen
from server.rounds import roll_call as room
from server.rounds.roll_call import check_clock, roll_call, welcome
from server.run.league import League
from server.run.run import Run
from server.run.stopping import ask_to_stop, take_back
from simulations.engines.local import LocalGrid

SITES = ["amber", "birch", "cedar"]
Change = Callable[[str, dict[str, str | int | float | bool]], None]


@pytest.mark.parametrize("told", [940.0, 1000.0, 1030.0, 1090.0])
def test_a_clock_within_a_minute_of_asking_and_hearing_is_taken(told: float) -> None:
    check_clock(told, 1000.0, 1030.0, where="x")


@pytest.mark.parametrize(
    ("told", "said"), [(1690.0, "660 s ahead of"), (400.0, "600 s behind"), (939.0, "61 s behind")]
)
def test_a_clock_that_is_off_is_named_with_how_far_and_what_to_do(told: float, said: str) -> None:
    with pytest.raises(WireError, match=rf"clock is {said} the coordinator's.*timedatectl"):
        check_clock(told, 1000.0, 1030.0, where="site 'birch'")


@pytest.mark.parametrize("told", [None, "noon", True, math.nan, math.inf])
def test_no_time_of_day_is_refused(told: object) -> None:
    with pytest.raises(WireError, match="no time of day"):
        check_clock(told, 1000.0, 1030.0, where="x")


def _league(tmp_path: Path, change: Change | None = None, quorum: float = 0.5) -> tuple[LocalGrid, Context]:
    run = RunFolder(tmp_path)
    config = load_config({"rounds": {"count": 3, "quorum": quorum, "protection": "plain"}})
    run.create(config, [SiteEntry(name, name.title(), "nowhere") for name in SITES])

    def app(message: Message, context: Context) -> Message:
        reply = honest(message, context)
        if message.metadata.message_type == wire.HELLO and change:
            header = wire.read_header(reply.content, where="test")
            change(header.site, header.plan)
            return Message(wire.pack(header), reply_to=message)
        return reply

    settings: UserConfig = {"run-dir": str(tmp_path), "job": "noop", "noop-size": 50, "progress": "silent"}
    return LocalGrid(app, 3, settings), Context(RUN_ID, COORDINATOR, {}, RecordDict(), settings)


def _late_by_ten_minutes(site: str, plan: dict[str, str | int | float | bool]) -> None:
    if site == "birch":
        plan["clock"] = float(plan["clock"]) - 600


def test_a_site_whose_clock_is_ten_minutes_off_is_left_out_and_the_others_go_on(tmp_path: Path) -> None:
    grid, context = _league(tmp_path, _late_by_ten_minutes)
    heard = io.StringIO()
    with RoundProgress("plain", heard) as progress:
        run = Run(grid, League.from_context(context), progress)
        roll_call(run)
    assert list(run.roster.nodes) == ["amber", "cedar"]
    assert "Left out: the site's clock is 600 s behind the coordinator's (site 'birch')" in heard.getvalue()


def test_where_the_quorum_fails_for_it_the_error_names_the_clock(tmp_path: Path) -> None:
    grid, context = _league(tmp_path, _late_by_ten_minutes, quorum=1.0)
    with (
        RoundProgress("silent") as progress,
        pytest.raises(QuorumError, match="'birch': the site's clock is 600 s"),
    ):
        roll_call(Run(grid, League.from_context(context), progress))


def test_a_site_that_comes_after_the_roll_call_takes_part_from_then_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid, context = _league(tmp_path)
    ask_to_stop(RunFolder(tmp_path))
    with pytest.raises(RunError, match="stopped after round 0"):
        coordinator(grid, context)  # all have got ready
    take_back(RunFolder(tmp_path))
    everyone = list(grid.get_node_ids())

    def some() -> list[int]:
        return everyone if (tmp_path / "rounds.jsonl").exists() else everyone[:2]

    monkeypatch.setattr(grid, "get_node_ids", some)
    monkeypatch.setattr(room, "_ROLL_CALL_S", 0.5)
    coordinator(grid, context)
    assert [sorted(line["sites"]) for line in read_lines(tmp_path / "rounds.jsonl")] == [
        SITES[:2],
        SITES,
        SITES,
    ]


def test_a_node_that_was_refused_is_not_asked_again(tmp_path: Path) -> None:
    heard: list[str] = []
    grid, context = _league(
        tmp_path, lambda site, plan: (heard.append(site), _late_by_ten_minutes(site, plan))[1]
    )
    league = League.from_context(context)
    with RoundProgress("silent") as progress:
        run = Run(grid, league, progress)
        roll_call(run)
        assert welcome(run) == []
    assert sorted(heard) == SITES


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (3, "no reply before the deadline"),
        (5, "the site is away"),
        (8, "died at work"),
        (1007, "reported an error: full"),
    ],
)
def test_errors_are_told_in_the_leagues_words(code: int, said: str) -> None:
    become(COORDINATOR)
    asked = Message(RecordDict(), dst_node_id=1, message_type="train")
    reply = Message(Error(code, "full"), reply_to=asked)
    with pytest.raises(WireError, match=said):
        screen(reply, Expected("birch", "run", 3))
