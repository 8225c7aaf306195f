"""The page and the gauges over a run that was really made, and over its faults."""

from __future__ import annotations

import http.client
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from common.errors import MachineError, QuorumError, RunError
from common.files import read_lines, write_json
from common.settings.load import load_config
from common.storage.run_folder import RunFolder, SiteEntry
from server.dashboard.gauges import PHASES, exposition
from server.dashboard.overview import overview, run_folder_of
from server.dashboard.web import Dashboard
from server.messages.watch import FILE
from simulations.engines.engine import run_league


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of three sites that do nothing, two of them members."""
    root = tmp_path_factory.mktemp("dashboard") / "run"
    entries = [SiteEntry(name, f"The {name}", "none", held_out=name == "c") for name in ("a", "b", "c")]
    RunFolder(root).create(
        load_config({"name": "hanse", "rounds": {"count": 4, "protection": "plain"}}), entries
    )
    run_league(root, "local", settings={"job": "noop", "noop-size": 500, "progress": "silent"})
    return root


@pytest.fixture
def run(made: Path, tmp_path: Path) -> RunFolder:
    shutil.copytree(made, tmp_path / "run")
    return RunFolder(tmp_path / "run")


@contextmanager
def _asked(dashboard: Dashboard) -> Iterator[http.client.HTTPConnection]:
    port = int(dashboard.url.rstrip("/").rpartition(":")[2])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        yield connection
    finally:
        connection.close()


def _get(dashboard: Dashboard, path: str, host: str = "localhost:1") -> tuple[int, bytes, dict[str, str]]:
    with _asked(dashboard) as connection:
        connection.request("GET", path, headers={"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.read(), dict(answer.getheaders())


def test_a_finished_run_is_told_as_its_log_has_it(run: RunFolder) -> None:
    found = overview(run)
    lines = read_lines(run.rounds_file)
    assert (found["phase"], found["round"], found["rounds"], found["league"]) == ("finished", 4, 4, "hanse")
    assert found["bytes"] == {
        "up": sum(line["bytes"]["up"] for line in lines),
        "down": sum(line["bytes"]["down"] for line in lines),
    }
    assert [point["round"] for point in found["history"]] == [1, 2, 3, 4]
    sites = {site["name"]: site for site in found["sites"]}
    assert {name: site["state"] for name, site in sites.items()} == {
        "a": "ready",
        "b": "ready",
        "c": "held_out",
    }
    assert sites["a"]["rounds"] == 4
    assert sites["a"]["seen"] is not None
    assert found["left_s"] is None
    assert found["privacy"] is None


def test_a_run_in_training_tells_what_is_left_and_who_is_out(run: RunFolder) -> None:
    lines = read_lines(run.rounds_file)[:3]
    lines[2]["sites"].pop("b")
    lines[2]["quarantined"] = [{"site": "b", "reason": "no reply before the deadline"}]
    for line in lines:
        line["seconds"] = 2.0
    run.rounds_file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    shutil.rmtree(run.release)
    live = json.loads((run.state / FILE).read_text())
    live["task"], live["sites"]["a"]["waiting"] = (
        {"type": "train", "group": "4", "began": 1.0, "deadline": 9.0},
        True,
    )
    write_json(run.state / FILE, live)
    found = overview(run, now=live["at"] + 1)
    assert (found["phase"], found["left_s"]) == ("training", 2.0)
    assert found["step"] == {"type": "train", "began": 1.0, "deadline": 9.0}
    sites = {site["name"]: site for site in found["sites"]}
    assert sites["a"]["state"] == "working"
    told = sites["b"]["state"], sites["b"]["reason"], sites["b"]["reason_round"], sites["b"]["rounds"]
    assert told == ("quarantined", "no reply before the deadline", 3, 2)


def test_a_run_whose_process_is_gone_is_told_as_interrupted(run: RunFolder) -> None:
    shutil.rmtree(run.release)
    live = json.loads((run.state / FILE).read_text())
    write_json(run.state / FILE, {**live, "pid": 2**22 + 1})
    assert overview(run, now=live["at"] + 600)["phase"] == "interrupted"


def test_a_failed_run_tells_its_error(run: RunFolder) -> None:
    write_json(
        run.state / "failure.json", QuorumError("too few", where="round 2", next_step="mend").as_dict()
    )
    found = overview(run)
    assert found["phase"] == "failed"
    assert found["fault"] == {"what": "too few", "where": "round 2", "why": "", "next_step": "mend"}
    (run.state / "stop").touch()
    assert overview(run)["phase"] == "stopped"


def test_epsilon_grows_by_the_contracts_noise_up_to_the_budget(run: RunFolder) -> None:
    config = load_config(
        {"rounds": {"count": 4, "protection": "plain"}, "privacy": {"mode": "user", "epsilon": 3.0}}
    )
    run.create(config, run.sites())
    lines = read_lines(run.rounds_file)
    spent = []
    for count in (0, 1, 2, 3, 4):
        run.rounds_file.write_text("".join(json.dumps(line) + "\n" for line in lines[:count]))
        spent.append(overview(run)["privacy"]["spent"])
    assert spent[0] == 0.0
    assert spent == sorted(spent)
    assert 2.9 < spent[4] <= 3.0


def test_prometheus_reads_what_it_is_given(run: RunFolder) -> None:
    text = exposition(overview(run)).decode()
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["hansa_rounds_done",] == 4
    assert [phase for phase in PHASES if samples["hansa_phase", phase]] == ["finished"]
    assert samples["hansa_site_present", "a"] == 1
    assert samples["hansa_site_present", "c"] == 0
    assert samples["hansa_vector_bytes_total", "up"] == overview(run)["bytes"]["up"]


def test_the_page_and_its_parts_are_served_and_load_nothing_from_elsewhere(run: RunFolder) -> None:
    with Dashboard(run.root) as dashboard:
        status, page, headers = _get(dashboard, "/?lang=zh")
        assert status == 200
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        parts = re.findall(rb'(?:src|href)="([^"]+)"', page)
        assert {b"style.css", b"words.js", b"app.js"} <= set(parts)
        assert not [part for part in parts if b"//" in part]
        for part in parts:
            if not part.startswith(b"data:"):
                assert _get(dashboard, f"/{part.decode()}")[0] == 200
        status, told, _ = _get(dashboard, "/api/run")
        assert (status, json.loads(told)["round"]) == (200, 4)
        assert _get(dashboard, "/metrics")[0] == 200
        assert _get(dashboard, "/../../server/app.py")[0] == 404
        assert "hansa/" not in headers.get("Server", "")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example:1", ""])
def test_a_page_of_a_foreign_name_is_refused(run: RunFolder, host: str) -> None:
    with Dashboard(run.root) as dashboard:
        assert _get(dashboard, "/api/run", host)[0] == 403


def test_a_kit_means_its_run_and_a_folder_without_one_is_named(run: RunFolder, tmp_path: Path) -> None:
    assert run_folder_of(run.root.parent).root == run.root.resolve()
    with pytest.raises(RunError, match="no run here"):
        run_folder_of(tmp_path / "elsewhere")
    with Dashboard(tmp_path / "elsewhere") as dashboard:
        status, told, _ = _get(dashboard, "/api/run")
        assert (status, json.loads(told)["error"]) == (503, "RunError")


def test_a_port_that_is_taken_is_named(run: RunFolder) -> None:
    with Dashboard(run.root) as first:
        port = int(first.url.rstrip("/").rpartition(":")[2])
        with pytest.raises(MachineError, match=f"can't listen.*{port}.*--port"):
            Dashboard(run.root, port)


def test_both_languages_have_the_same_words() -> None:
    text = (files("server.dashboard") / "words.js").read_text(encoding="utf-8")
    english, chinese = text.split("  zh: {")
    keys = [re.findall(r'(?:^|[{,\s])"?([\w.]+)"?:', part) for part in (english.split("  en: {")[1], chinese)]
    assert sorted(keys[0]) == sorted(keys[1])
    assert len(keys[0]) > 40
    columns = [re.search(r"columns: \[(.*?)\]", part, re.S) for part in (english, chinese)]
    assert all(found and found.group(1).count('", "') == 7 for found in columns)
