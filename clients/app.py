"""One site: a Flower ClientApp, and the table of contents of what a site does for a league.

Invariants: when something fails, only the error's kind leaves the site, or a message about the contract, the run or the
machine. The outermost mod turns every other exception into an error reply without its message, which may hold rows of
data; the message stays in the site's own log. Sites are stateless between messages, so a repeated message gets the same
bytes.
"""

from __future__ import annotations

import functools
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from flwr.app import Context, Error, Message
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable

from clients.secagg.messages import answer_step, coarse
from clients.secagg.plain import protect_for
from clients.secagg.site import SecaggSite
from clients.training.noop import NoopSite
from common.errors import (
    ConfigError,
    HansaError,
    MachineError,
    PrivacyError,
    QuorumError,
    RunError,
    WireError,
)
from common.privacy.guarantee import SHARES_NOISE
from common.protocol import wire
from common.protocol.weights import require_own_weight, size_bucket
from common.provision.pinned import Pinned
from common.runtime.disk import full_disk
from common.secagg.protocol import Attempt
from common.settings.config import LeagueConfig
from common.storage.run_folder import RunFolder, SiteEntry, read_config, read_sites

if TYPE_CHECKING:
    from clients.ledger.rounds import AddSharedNoise

# Errors of these kinds are about the contract, the run or the machine; all others may quote a site's data.
_TELLABLE = (WireError, ConfigError, QuorumError, MachineError, PrivacyError)
_ERROR_CODE = 1000
_OPEN_SITES = 256
_log = logging.getLogger("hansa.site")
Plan = dict[str, str | int | float | bool]


@dataclass(frozen=True)
class _Request:
    """A message that belongs to this site's league, its header, and the open site that answers it."""

    message: Message
    site: wire.Trainer
    header: wire.Header

    def received(self) -> tuple[wire.Layout, wire.FloatVector]:
        """The model that came with it.

        Raises
        ------
        WireError : it has another layout, or isn't finite.
        """
        layout, where = self.site.layout(), wire.place(self.site.name, self.header.round)
        if self.header.layout != layout.digest:
            raise WireError("the coordinator's parameters have another layout", where=where)
        vector = wire.decode_floats(self.message.content, layout.size, where=where)
        wire.check_finite(vector, where=where)
        return layout, vector

    def reply(
        self, layout: wire.Layout, plan: Plan, *, vector: wire.Payload | None = None,
        metrics: dict[str, float] | None = None,
    ) -> Message:  # fmt: skip
        """What goes back."""
        header = self.header
        answer = wire.Header(header.run, header.round, self.site.name, layout.digest, header.protection, plan)
        return Message(wire.pack(answer, vector=vector, metrics=metrics), reply_to=self.message)


def redact(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Outermost mod: answer a fault with an error that tells its kind but no data."""
    try:
        return call_next(message, context)
    except HansaError as fault:
        _log.error("%s failed: %s", message.metadata.message_type, fault.sentence())
        reason = (
            f"{type(fault).__name__}: {fault.what}" if isinstance(fault, _TELLABLE) else type(fault).__name__
        )
        return Message(Error(_ERROR_CODE + fault.exit_code, reason), reply_to=message)
    except Exception as fault:  # noqa: BLE001 — the edge of the site: nothing may pass it unredacted
        _log.error("%s failed", message.metadata.message_type, exc_info=fault)
        if full := full_disk(fault, "the site"):
            return Message(
                Error(_ERROR_CODE + full.exit_code, f"MachineError: {full.what}"), reply_to=message
            )
        return Message(Error(_ERROR_CODE, type(fault).__name__), reply_to=message)


def round_figures(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Mod: a site's figures of a model that was summed under CKKS are rounded."""
    reply = call_next(message, context)
    return coarse(reply) if _config(context).rounds.protection == "ckks" else reply


app = ClientApp(mods=[redact, round_figures])


@app.query("hello")
def hello(message: Message, context: Context) -> Message:
    """Say which site this node is, without opening its data."""
    config = _config(context)
    header = wire.Header(run=config.digest(), site=_place(context)[0], plan={"clock": time.time()})
    return Message(wire.pack(header), reply_to=message)


@app.query("prepare")
def prepare(message: Message, context: Context) -> Message:
    """Open the site; state the parameter layout, the first model's digest and the size to half an octave."""
    request = _enter(message, context)
    site, header = request.site, request.header
    # Under a protected count the size travels in the sum only, so it's not told here.
    counted = _config(context).rounds.weights == "count"
    users = 1.0 if counted else max(1.0, site.prepare().get("users", 1.0))
    layout, first = site.layout(), site.initial()
    plan: Plan = {
        "bucket": size_bucket(users),
        "initial": wire.vector_digest(first),
    }
    _afford(context, site)
    if header.plan.get("initial") is True:
        plan["layout"] = layout.to_json()
        return request.reply(layout, plan, vector=first)
    return request.reply(layout, plan)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train on the received model; reply the protected update and the received model's figures."""
    request = _enter(message, context)
    site, header = request.site, request.header
    if _config(context).rounds.protection != "plain":
        return _train_protected(request, context)
    layout, vector = request.received()
    result, plan = _trained(context, site, vector, header)
    payload = protect_for(_config(context), header.protection).protect(result.update, result.weight)
    return request.reply(layout, plan, vector=payload, metrics=result.metrics)


@app.query("secure")
def secure(message: Message, context: Context) -> Message:
    """One step of the protections' protocol: keys, survivors, shares, a sum to apply, the model to release."""
    request = _enter(message, context)
    site, header = request.site, request.header
    step = str(header.plan.get("step", ""))
    answer = answer_step(_secagg(context, site), step, header, message.content, _out(context, site.name))
    return request.reply(site.layout(), {}, vector=answer)


def _train_protected(request: _Request, context: Context) -> Message:
    """Train on the site's own copy of the model, or on the received one, and reply a container."""
    site, header = request.site, request.header
    secagg, layout = _secagg(context, site), site.layout()
    if header.protection != _config(context).rounds.protection:
        raise WireError("the coordinator asks for another protection than the contract's", where=site.name)
    rounds = _config(context).rounds
    if rounds.encrypted:
        vector = secagg.vector(header.round - 1)
    else:
        layout, vector = request.received()
    attempt = Attempt.of(str(header.plan.get("attempt", "")))
    if attempt.round != header.round or site.name not in attempt.weights:
        raise WireError("the round's attempt is of another round or cohort", where=site.name)
    secagg.require_clean(attempt, str(header.plan.get("refusals", "[]")))
    users = site.prepare().get("users", 1.0)
    require_own_weight(
        attempt.weights[site.name], rounds.weights, users, where=wire.place(site.name, header.round)
    )
    shared = (
        (lambda update, pay: secagg.share_noise(update, attempt, pay))
        if _config(context).privacy.mode in SHARES_NOISE
        else None
    )
    result, plan = _trained(context, site, vector, header, shared)
    payload = _blob(secagg.protect(result.update, attempt, users if rounds.weights == "count" else 1.0))
    return request.reply(layout, plan, vector=payload, metrics=result.metrics)


def _trained(
    context: Context, site: wire.Trainer, vector: wire.FloatVector, header: wire.Header,
    shared: AddSharedNoise | None = None,
) -> tuple[wire.TrainResult, Plan]:  # fmt: skip
    """Train; returns the result and the plan of the reply. Differential privacy is paid from the site's own ledger."""
    config = _config(context)
    if config.privacy.mode == "off":
        result = site.train(vector, header.round)
        return result, {"weight": result.weight}
    # Late, as the site itself: only a site that trains needs torch and Opacus.
    from clients.dp import NoisyOutputs
    from clients.ledger import open_ledger
    from clients.ledger.rounds import check_receipt, paid_round, price_of_round

    private = _out(context, site.name) / "private"
    with open_ledger(_place(context)[1], private) as ledger:
        if receipt := str(header.plan.get("receipt", "")):
            check_receipt(ledger, receipt, private, site.name, _pinned(context))
        update = paid_round(
            ledger, NoisyOutputs(private / "updates"), price_of_round(config, header.round), vector,
            lambda: site.train(vector, header.round).update, shared,
        )  # fmt: skip
        return wire.TrainResult(update, 1.0, {}), {"weight": 1.0, "ledger": ledger.head().to_json()}


def _afford(context: Context, site: wire.Trainer) -> None:
    """Refuse to join a run if the site's own budget is too small for a single round."""
    config = _config(context)
    if config.privacy.mode == "off":
        return
    from clients.ledger import open_ledger
    from clients.ledger.rounds import price_of_round

    with open_ledger(_place(context)[1], _out(context, site.name) / "private") as ledger:
        ledger.afford(price_of_round(config, 1))


def _pinned(context: Context) -> Pinned | None:
    """The keys of the contract in a deployment; None in a simulation."""
    own = str(context.node_config.get("keys-file", ""))
    return Pinned.of(Path(_setting(context, "config-json")), Path(own)) if own else None


def _secagg(context: Context, site: wire.Trainer) -> SecaggSite:
    return SecaggSite(
        _out(context, site.name) / "private", site.name, _config(context), site, _pinned(context)
    )


def _blob(data: bytes) -> wire.Payload:
    return np.frombuffer(data, dtype=np.uint8)


@app.evaluate("measure")
def measure(message: Message, context: Context) -> Message:
    """Reply the received model's figures without training, where the site can."""
    request = _enter(message, context)
    site, header = request.site, request.header
    if _config(context).rounds.encrypted:
        layout, vector = site.layout(), _secagg(context, site).vector(header.round)
    else:
        layout, vector = request.received()
    metrics = site.measure(vector) if isinstance(site, wire.Measurer) else {}
    return request.reply(layout, {}, metrics=metrics)


@app.evaluate("local")
def evaluate_local(message: Message, context: Context) -> Message:
    """Train and score the site's own models that never leave it."""
    request = _enter(message, context)
    site = request.site
    metrics = site.evaluate_local(_out(context, site.name))
    return request.reply(site.layout(), {}, metrics=metrics)


@app.evaluate("final")
def evaluate_final(message: Message, context: Context) -> Message:
    """Score the shared model, fine-tune it, and write the site's results."""
    request = _enter(message, context)
    site, header = request.site, request.header
    if _config(context).rounds.release == "sites":
        layout, vector = site.layout(), _secagg(context, site).vector(int(header.plan.get("best", 0)))
    else:
        layout, vector = request.received()
    whole = not context.run_config.get("yardstick", False)
    metrics = site.evaluate_final(vector, _out(context, site.name), whole)
    return request.reply(layout, {}, metrics=metrics)


def _enter(message: Message, context: Context) -> _Request:
    """Check that the message belongs to this site's league, then open the site."""
    config = _config(context)
    name, folder = _place(context)
    header = wire.read_header(message.content, where=f"site '{name}'")
    if header.run != config.digest():
        raise WireError(
            "the coordinator runs a league with other settings", where=wire.place(name, header.round)
        )
    if not 0 <= header.round <= config.rounds.count:
        raise WireError("the contract has no such round", where=wire.place(name, header.round))
    return _Request(message, _open(context, name, folder, config), header)


def _setting(context: Context, name: str) -> str:
    """A path or name from the node's own configuration, else from the run's."""
    return str(context.node_config.get(name) or context.run_config.get(name) or "")


def _config(context: Context) -> LeagueConfig:
    run_dir = RunFolder(Path(_setting(context, "run-dir")))
    path = Path(_setting(context, "config-json") or run_dir.config_file)
    return _read_config(path, path.stat().st_mtime_ns if path.exists() else 0)


def _place(context: Context) -> tuple[str, Path]:
    """The site's name and folder: its own in a deployment, by partition in a simulation."""
    folder = str(context.node_config.get("site-dir", ""))
    if folder:
        return str(context.node_config.get("site-name") or Path(folder).name), Path(folder)
    run_dir = RunFolder(Path(_setting(context, "run-dir")))
    path = Path(_setting(context, "league-json") or run_dir.league_file)
    sites = _read_sites(path, path.stat().st_mtime_ns if path.exists() else 0)
    number = context.node_config.get("partition-id")
    if not isinstance(number, int) or not 0 <= number < len(sites):
        raise RunError(
            "this node has no site", where=f"partition {number}", next_step="set site-dir in node-config"
        )
    return sites[number].name, Path(sites[number].folder)


def _out(context: Context, name: str) -> Path:
    own = str(context.node_config.get("out-dir", ""))
    return Path(own) if own else RunFolder(Path(_setting(context, "run-dir"))).site_out(name)


def _open(context: Context, name: str, folder: Path, config: LeagueConfig) -> wire.Trainer:
    if config.privacy.seeded and context.node_config.get("site-dir"):
        raise PrivacyError(
            "the league draws its noise from a seed", where=f"site '{name}'",
            why="noise that can be replayed can be taken away again; seeds are for simulations",
            next_step="set privacy.seeded=false",
        )  # fmt: skip
    if context.run_config.get("job") == "noop":
        settings = context.run_config
        size, steps = int(settings.get("noop-size", 1000)), int(settings.get("noop-steps", 0))
        if steps:
            _one_thread()
        return NoopSite(name, config.seed, size, steps, float(settings.get("noop-pause-s", 0.0)))
    return _open_site(folder, config)


@functools.lru_cache(maxsize=_OPEN_SITES)
def _open_site(folder: Path, config: LeagueConfig) -> wire.Trainer:
    _one_thread()
    # Late, so that a job without data doesn't wait for torch and the encoders.
    from clients.trainer import open_site

    site: wire.Trainer = open_site(folder, config)
    return site


@functools.lru_cache(maxsize=4)
def _read_config(path: Path, modified_ns: int) -> LeagueConfig:
    # Keyed by the time of change too: one process may run several leagues in the same folder.
    return read_config(path)


@functools.lru_cache(maxsize=4)
def _read_sites(path: Path, modified_ns: int) -> tuple[SiteEntry, ...]:
    return tuple(read_sites(path))


@functools.lru_cache(maxsize=1)
def _one_thread() -> None:
    # Sites run side by side: two threads each on busy cores are three times slower than one.
    # numpy's and scikit-learn's own threads too; of libraries that are loaded later, by their environment.
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    threadpool_limits(1)
