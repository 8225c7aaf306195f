"""Flower's own FedAvg on Flower's own engine, with a client that does nothing: what the rounds benchmark
compares with.

Invariant: nothing of Hansa runs in it. The app below is written to a temporary folder and run there by
`flwr run`, with the same number of parameters as one array, and the same number of nodes and processes as
ours.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from flwr.app import UserConfig

from common.errors import RunError
from common.flower.project import Components, project_file
from simulations.engines.ray import flower_run

_SERVER = """
import json
import time
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()


@app.main()
def main(grid, context):
    settings = context.run_config
    moments = []
    strategy = FedAvg(fraction_evaluate=0.0, min_available_nodes=settings["nodes"])
    strategy.start(
        grid,
        ArrayRecord([np.zeros(settings["size"], dtype=np.float32)]),
        num_rounds=settings["rounds"],
        evaluate_fn=lambda round_, arrays: moments.append(time.monotonic()),
    )
    Path(settings["report"]).write_text(json.dumps(moments))
"""

_CLIENT = """
from flwr.app import Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message, context):
    metrics = MetricRecord({"num-examples": 1, "loss": 0.0})
    return Message(RecordDict({"arrays": message.content["arrays"], "metrics": metrics}), reply_to=message)
"""


def fedavg_round_s(nodes: int, size: int, rounds: int, workers: int) -> float:
    """Mean seconds of a round, without start-up, for `nodes` clients and `size` float32 parameters.

    Raises
    ------
    RunError : Flower didn't complete the run.
    """
    with tempfile.TemporaryDirectory(prefix="hansa-fedavg-", ignore_cleanup_errors=True) as home:
        app, report = Path(home) / "app", Path(home) / "moments.json"
        (app / "noop").mkdir(parents=True)
        (app / "noop" / "__init__.py").write_text("")
        (app / "noop" / "server.py").write_text(_SERVER)
        (app / "noop" / "client.py").write_text(_CLIENT)
        config: UserConfig = {"nodes": nodes, "size": size, "rounds": rounds, "report": str(report)}
        project = project_file(Components("noop", "noop.server:app", "noop.client:app"), config)
        (app / "pyproject.toml").write_text(project, encoding="utf-8")
        status, log = flower_run(app, Path(home) / "flower", nodes=nodes, workers=workers)
        if not report.exists():
            raise RunError(
                f"Flower ended the comparison as '{status}'", where="rounds benchmark", why=log[-500:]
            )
        moments = json.loads(report.read_text())
    return float(moments[-1] - moments[0]) / rounds
