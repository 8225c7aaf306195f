"""Orders to a coordinator, and what its keeper makes of them; the real processes are in `tests/deployment`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from common.errors import QuorumError, RunError
from common.files import PROJECT, append_line, write_json
from common.provision.contract import FILE, Contract, Member
from common.runtime.processes import Child, stop
from common.settings.load import load_config
from common.storage.run_folder import RunFolder
from server.run.stopping import is_asked_to_stop, stop_if_asked
from server.superlink import supervisor
from server.superlink.commands import (
    await_model,
    await_stop,
    fault_from,
    is_under_way,
    order_run,
    order_stop,
    run_of,
)
from server.superlink.orders import ADDRESS, OrderStatus, Post


class App:
    """Stands in for the coordinator's processes: what the keeper asks of them, and nothing else."""

    superlink = "127.0.0.1:1"

    def __init__(self, kit: Any, port: int, front: str) -> None:
        self.started: list[str] = []
        self.code: int | None = None
        self.link = True
        self.restarts = 0
        self.refusing = 0

    def start_run(self, folder: RunFolder) -> int:
        if self.refusing:
            self.refusing -= 1
            raise RunError("the SuperLink didn't start a run", where="SuperLink")
        folder.state.mkdir(parents=True, exist_ok=True)
        self.started.append(folder.root.name)
        self.code = None
        return len(self.started)

    def follow_kit(self) -> None:
        pass

    def link_runs(self) -> bool:
        return self.link

    def app_runs(self) -> bool:
        return self.code is None

    def app_code(self) -> int | None:
        return self.code

    def app_tail(self) -> str:
        return "its last words"

    def forget_run(self) -> None:
        pass

    def end_app(self) -> None:
        self.code = -15

    def restart(self) -> None:
        self.restarts += 1
        self.link, self.code = True, None

    def stop(self) -> list[str]:
        return []


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    folder = tmp_path / "coordinator"
    (folder / "private").mkdir(parents=True)
    members = tuple(Member(name, "key", "", "", "", "") for name in ("a", "b"))
    Contract(load_config({}), "code", members).write(folder / FILE)
    return folder


@pytest.fixture
def kept(kit: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    monkeypatch.setattr(supervisor, "Coordinator", App)
    made = supervisor.Keeper(kit)
    yield SimpleNamespace(keeper=made, app=made._up, post=Post(kit), kit=kit)
    made.stop()


def _release(kit: Path) -> None:
    folder = run_of(kit)
    folder.release.mkdir(parents=True)
    (folder.release / "model.safetensors").write_bytes(b"model")


def test_an_order_is_carried_out_once(kept: SimpleNamespace) -> None:
    order = order_run(kept.kit)
    kept.keeper.look()
    kept.keeper.look()
    assert kept.app.started == ["run"]
    assert is_under_way(kept.post)
    _release(kept.kit)
    kept.app.code = 0
    kept.keeper.look()
    kept.keeper.look()
    assert await_model(kept.kit, order, lambda: None).state == "released"
    assert kept.app.started == ["run"]


def test_a_second_order_is_refused_while_the_first_is_under_way(kept: SimpleNamespace) -> None:
    order_run(kept.kit)
    with pytest.raises(RunError, match=r"under way already.*coordinator status"):
        order_run(kept.kit)


def test_a_run_whose_process_was_killed_is_started_again(kept: SimpleNamespace) -> None:
    order_run(kept.kit)
    kept.keeper.look()
    kept.app.code = -9
    kept.keeper.look()
    assert kept.app.started == ["run", "run"]
    outcome = kept.post.outcome()
    assert (outcome.state, outcome.tries) == ("running", 2)


def test_a_superlink_that_dies_while_a_run_is_started_is_no_end(kept: SimpleNamespace) -> None:
    order_run(kept.kit)
    kept.app.refusing = 3
    assert [supervisor._went_well(kept.keeper) for _ in range(4)] == [False, False, False, True]
    assert kept.app.started == ["run"]
    kept.app.code, kept.app.refusing = -9, 1
    assert [supervisor._went_well(kept.keeper) for _ in range(3)] == [False, True, True]
    assert kept.app.started == ["run", "run"]


def test_a_superlink_that_was_killed_is_started_again_with_its_run(kept: SimpleNamespace) -> None:
    order_run(kept.kit)
    kept.keeper.look()
    kept.app.link = False
    kept.keeper.look()
    assert kept.app.restarts == 1
    assert kept.app.started == ["run", "run"]


def test_a_run_that_dies_without_getting_further_is_given_up_with_its_last_words(
    kept: SimpleNamespace,
) -> None:
    order = order_run(kept.kit)
    for _ in range(6):
        kept.keeper.look()
        kept.app.code = 1
    assert len(kept.app.started) == 3
    with pytest.raises(RunError, match="its last words"):
        await_model(kept.kit, order, lambda: None)


def test_a_run_that_gets_further_each_time_is_tried_on(kept: SimpleNamespace) -> None:
    order_run(kept.kit)
    for round_ in range(8):
        kept.keeper.look()
        write_json(run_of(kept.kit).state / f"round-{round_:04d}.json", {})
        append_line(run_of(kept.kit).state / "evaluate.final.jsonl", {})
        kept.app.code = -9
    kept.keeper.look()
    assert len(kept.app.started) == 9


def test_an_error_of_the_leagues_own_ends_the_order_with_its_exit_code(kept: SimpleNamespace) -> None:
    order = order_run(kept.kit)
    kept.keeper.look()
    fault = QuorumError("1 of 2 sites took part", where="round 3", next_step="mend")
    write_json(run_of(kept.kit).state / "failure.json", fault.as_dict())
    kept.app.code = 1
    kept.keeper.look()
    with pytest.raises(QuorumError, match="1 of 2 sites") as caught:
        await_model(kept.kit, order, lambda: None)
    assert caught.value.exit_code == 5
    assert kept.app.started == ["run"]


def test_a_stop_waits_for_the_round_and_a_later_order_goes_on(kept: SimpleNamespace) -> None:
    order_run(kept.kit)
    kept.keeper.look()
    order_stop(kept.kit, now=False)
    kept.keeper.look()
    folder = run_of(kept.kit)
    assert is_asked_to_stop(folder)
    assert is_under_way(kept.post)
    with pytest.raises(RunError, match="stopped after round 2, as asked") as caught:
        stop_if_asked(folder, 2)
    write_json(folder.state / "failure.json", caught.value.as_dict())
    kept.app.code = 1
    kept.keeper.look()
    assert await_stop(kept.kit, seconds=1).state == "stopped"
    kept.keeper.look()
    assert kept.app.started == ["run"]
    order_run(kept.kit, resume=True)
    kept.keeper.look()
    assert kept.app.started == ["run", "run"]
    assert not is_asked_to_stop(folder)


def test_a_stop_at_once_ends_the_process_of_the_run(kept: SimpleNamespace) -> None:
    order_run(kept.kit)
    kept.keeper.look()
    order_stop(kept.kit, now=True)
    kept.keeper.look()
    assert kept.app.code == -15
    assert await_stop(kept.kit, seconds=1).state == "stopped"
    with pytest.raises(RunError, match="no run is under way"):
        order_stop(kept.kit, now=False)


def test_an_order_outlives_a_coordinator_that_was_killed(
    kept: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_run(kept.kit)
    kept.keeper.look()
    kept.keeper._hold.close()  # what the kernel does when a process is killed
    again = supervisor.Keeper(kept.kit)
    again.look()
    assert again._up.started == ["run"]  # type: ignore[attr-defined]
    assert kept.post.outcome().tries == 2
    again.stop()


def test_nothing_is_ordered_of_a_coordinator_that_is_down(kept: SimpleNamespace) -> None:
    kept.keeper.stop()
    for order in (lambda: order_run(kept.kit), lambda: order_stop(kept.kit, now=True)):
        with pytest.raises(RunError, match=r"isn't up.*hansa coordinator up"):
            order()


def test_there_is_nothing_to_resume_before_the_first_run(kept: SimpleNamespace) -> None:
    with pytest.raises(RunError, match=r"no run to resume.*hansa coordinator run"):
        order_run(kept.kit, resume=True)


def test_a_second_coordinator_of_a_kit_is_refused(kept: SimpleNamespace) -> None:
    with pytest.raises(RunError, match=r"runs already.*process \d+ holds it.*stop it first"):
        supervisor.Keeper(kept.kit)
    assert (kept.kit / "private" / ADDRESS).exists()


def test_children_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from common.runtime.processes import Child\n"
        f"command, log = ['-m', 'http.server', '0', '--bind', '127.0.0.1'], Path({str(tmp_path / 'log')!r})\n"
        "child = Child.start('x', command, log)\n"
        "print(child.process.pid, flush=True); time.sleep(60)"
    )
    root = str(PROJECT)
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": root}
    ) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        os.kill(pid, 0)
        process.kill()
    ends = time.monotonic() + 5
    while time.monotonic() < ends and _alive(pid):
        time.sleep(0.05)
    assert not _alive(pid)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_what_a_fault_tells_comes_back_as_the_same_error() -> None:
    fault = QuorumError("too few", where="here", why="because", next_step="then")
    back = fault_from(fault.as_dict())
    assert (type(back), back.sentence()) == (QuorumError, fault.sentence())
    assert isinstance(fault_from({}), RunError)


def test_a_stopped_outcome_is_no_model(kept: SimpleNamespace) -> None:
    order = order_run(kept.kit)
    kept.post.tell(OrderStatus(order.number, "stopped", fault=RunError("stopped").as_dict()))
    with pytest.raises(RunError, match="stopped"):
        await_model(kept.kit, order, lambda: None)


def test_a_child_that_is_stopped_has_ended(tmp_path: Path) -> None:
    child = Child.start("x", ["-m", "http.server", "0", "--bind", "127.0.0.1"], tmp_path / "log")
    assert child.runs()
    stop([child])
    assert not child.runs()
