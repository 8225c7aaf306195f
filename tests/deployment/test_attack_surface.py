"""From a site's place on the network, with every key but one's own: what can be reached, and what can't.

Real processes: SuperLink, guard or nginx, and the coordinator's app, which asks three sites for their names. The sites
are this test, so it can send what no honest site sends.
"""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import httpx
import pytest
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.proto import fleet_pb2, message_pb2, node_pb2, run_pb2
from flwr.superlink.main import create_app

from common.provision.door import REFUSED, ROUTES
from server.superlink.commands import order_run
from tests.deployment.support.places import NAMES, PROTOBUF, Seat, refusal

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def seated(league: SimpleNamespace) -> Iterator[dict[str, SimpleNamespace]]:
    """The three sites, each with the message that the coordinator's app sent it."""
    places = {}
    for name in NAMES:
        seat = Seat.at(league.kits, name)
        client = seat.fleet()
        key = client._interceptors[0]._public_key_bytes  # type: ignore[attr-defined]
        told = client.ActivateNode(fleet_pb2.ActivateNodeRequest(public_key=key, heartbeat_interval=30))
        places[name] = SimpleNamespace(
            seat=seat, client=client, node=node_pb2.Node(node_id=told.node_id), key=key
        )
    order_run(league.kits / "coordinator", resume=False)
    ends = time.monotonic() + 120
    for each in places.values():
        while True:
            given = each.client.PullMessages(fleet_pb2.PullMessagesRequest(node=each.node))
            if given.messages_list:
                each.message, each.tree = given.messages_list[0], given.message_object_trees[0]
                break
            assert time.monotonic() < ends, "the coordinator's app asked nothing"
            time.sleep(0.2)
    yield places
    for each in places.values():
        each.client.close()


def _routes() -> list[tuple[str, str]]:
    """Everything that Flower's SuperLink answers to, from its own application."""
    found: list[tuple[str, str]] = []

    def walk(routes: list[object]) -> None:
        for route in routes:
            inner = getattr(route, "original_router", None)
            if inner is not None:
                walk(inner.routes)
                continue
            methods = sorted(getattr(route, "methods", None) or {"GET"})
            found.extend((method, str(getattr(route, "path", ""))) for method in methods)

    walk(list(create_app().routes))
    return found


def test_flowers_routes_are_all_known_here() -> None:
    """Control, Runtime, docs and OpenAPI are there behind the guard; a route that's new in Flower shows up here."""
    paths = {path for _, path in _routes()}
    assert paths >= ROUTES
    assert {"/docs", "/openapi.json", "/v1/control/start-run", "/v1/control/register-node"} <= paths
    assert {"/v1/runtime/pull-task-input", "/v1/runtime/acquire-task"} <= paths
    assert len(paths) > 70


def test_nothing_but_ten_fleet_routes_is_open(league: SimpleNamespace) -> None:
    seat = Seat.at(league.kits, "bergen")
    with seat.http() as client:
        for method, path in _routes():
            if path in ROUTES and method == "POST":
                continue
            answer = client.request(method, path, headers=PROTOBUF, content=b"")
            assert answer.status_code == 404, (method, path, answer.status_code)
            assert answer.headers[REFUSED] == "route"
        for path in ("/", "/redoc", "/v1/fleet", "/v1/fleet/", "/v1/fleet/x", "/metrics", "/v1/responses"):
            assert client.post(path, headers=PROTOBUF).status_code == 404


def test_who_shows_no_certificate_gets_no_answer(league: SimpleNamespace) -> None:
    seat = Seat.at(league.kits, "bergen")
    for path in (*sorted(ROUTES), "/docs", "/v1/control/list-runs"):
        with seat.http(shows=False) as client:
            try:
                answer = client.post(path, headers=PROTOBUF)
            except httpx.TransportError:
                continue
            assert answer.status_code in (400, 403), path
            assert answer.headers.get(REFUSED) == "certificate_missing"


@pytest.mark.usefixtures("seated")
def test_anothers_certificate_or_node_key_is_not_enough(league: SimpleNamespace) -> None:
    """Whoever steals one of a site's two keys still can't speak for it."""
    other = league.kits / "sites" / "hangzhou"
    stolen_node = Seat.at(league.kits, "bergen", node=other / "private" / "node.key")
    stolen_certificate = Seat.at(
        league.kits, "bergen", certificate=other / "client.crt", key=other / "private" / "client.key"
    )
    for seat in (stolen_node, stolen_certificate):
        with seat.fleet() as client:
            key = client._interceptors[0]._public_key_bytes  # type: ignore[attr-defined]
            asked = fleet_pb2.ActivateNodeRequest(public_key=key, heartbeat_interval=30)
            with pytest.raises(httpx.HTTPStatusError) as caught:
                client.ActivateNode(asked)
        assert refusal(caught.value) == "node_key"


def test_a_claimed_certificate_is_overwritten(league: SimpleNamespace) -> None:
    """The header in which the guard hands the certificate on can't be brought along."""
    shown = (league.kits / "sites" / "hangzhou" / "client.crt").read_text()
    with Seat.at(league.kits, "bergen").http() as client:
        quoted = (
            httpx.QueryParams({"x": shown})["x"].replace("\n", "%0A").replace(" ", "%20").replace("+", "%2B")
        )
        answer = client.post("/v1/fleet/pull-messages", headers={**PROTOBUF, "x-hansa-certificate": quoted})
    assert (
        answer.headers[REFUSED] == "node_key"
    )  # bergen's own certificate was looked at, and found in the contract


def test_a_site_registers_no_node(league: SimpleNamespace) -> None:
    with Seat.at(league.kits, "bergen").fleet() as client, pytest.raises(httpx.HTTPStatusError) as caught:
        client.RegisterNode(fleet_pb2.RegisterNodeFleetRequest(public_key=b"x"))
    assert caught.value.response.status_code == 404


def test_a_second_process_of_a_site_is_turned_away(
    league: SimpleNamespace, seated: dict[str, SimpleNamespace]
) -> None:
    twin = Seat.at(league.kits, "bergen")
    twin.instance = "another machine"
    here = seated["bergen"]
    here.client.PullMessages(fleet_pb2.PullMessagesRequest(node=here.node))
    with twin.fleet() as client, pytest.raises(httpx.HTTPStatusError) as caught:
        client.PullMessages(fleet_pb2.PullMessagesRequest(node=here.node))
    assert refusal(caught.value) == "duplicate"


def _spoofs(seated: dict[str, SimpleNamespace]) -> dict[str, Callable[[], object]]:
    """What bergen may try with hangzhou's message, knowing all its digests."""
    me, them = seated["bergen"], seated["hangzhou"]
    run_id, own = me.message.metadata.run_id, me.node

    def reply(**changes: object) -> object:
        message = type(me.message)()
        message.CopyFrom(me.message)
        told = message.metadata
        told.reply_to_message_id, told.message_id = me.message.metadata.message_id, "f" * 64
        told.src_node_id, told.dst_node_id = own.node_id, SUPERLINK_NODE_ID
        for name, value in changes.items():
            setattr(told, name, value)
        tree = message_pb2.ObjectTree(object_id="f" * 64)
        return me.client.PushMessages(
            fleet_pb2.PushMessagesRequest(node=own, messages_list=[message], message_object_trees=[tree])
        )

    theirs = them.message.metadata
    return {
        "read": lambda: me.client.PullObject(
            message_pb2.PullObjectRequest(node=own, run_id=run_id, object_id=them.tree.object_id)
        ),
        "confirm, which deletes": lambda: me.client.ConfirmMessageReceived(
            message_pb2.ConfirmMessageReceivedRequest(
                node=own, run_id=run_id, message_object_id=theirs.message_id
            )
        ),
        "answer in their place": lambda: reply(
            reply_to_message_id=theirs.message_id, src_node_id=them.node.node_id
        ),
        "answer theirs as mine": lambda: reply(reply_to_message_id=theirs.message_id),
        "answer mine as theirs": lambda: reply(src_node_id=them.node.node_id),
        "an order in the coordinator's name": lambda: reply(
            reply_to_message_id="", src_node_id=SUPERLINK_NODE_ID, dst_node_id=them.node.node_id
        ),
        "write an object of theirs": lambda: me.client.PushObject(
            message_pb2.PushObjectRequest(
                node=own, run_id=run_id, object_id=them.tree.object_id, object_content=b"x", session_id="x"
            )
        ),
        "say that they leave": lambda: me.client.DeactivateNode(
            fleet_pb2.DeactivateNodeRequest(node_id=them.node.node_id)
        ),
        "pull in their name": lambda: me.client.PullMessages(
            fleet_pb2.PullMessagesRequest(node=them.node)
        ),
    }  # fmt: skip


def test_nobody_reads_replaces_or_orders_in_anothers_name(seated: dict[str, SimpleNamespace]) -> None:
    for what, attempt in _spoofs(seated).items():
        with pytest.raises(httpx.HTTPStatusError) as caught:
            attempt()
        assert caught.value.response.status_code in (401, 403), what
    # And what is theirs is still there for them.
    them = seated["hangzhou"]
    got = them.client.PullObject(
        message_pb2.PullObjectRequest(
            node=them.node, run_id=them.message.metadata.run_id, object_id=them.tree.object_id
        )
    )
    assert got.object_found
    me = seated["bergen"]
    with pytest.raises(httpx.HTTPStatusError) as caught:
        me.client.GetRun(run_pb2.GetRunRequest(node=them.node, run_id=me.message.metadata.run_id))
    assert caught.value.response.status_code == 401


@pytest.mark.usefixtures("seated")
def test_a_signed_request_counts_once_and_only_with_its_body(
    league: SimpleNamespace, seated: dict[str, SimpleNamespace]
) -> None:
    me, caught = seated["lubeck"], []

    class Tap:
        def intercept(self, context, call_next):  # type: ignore[no-untyped-def]
            caught.append(dict(context.request.headers))
            return call_next(context)

    me.client._interceptors = (*me.client._interceptors, Tap())
    body = fleet_pb2.PullMessagesRequest(node=me.node).SerializeToString()
    me.client.PullMessages(fleet_pb2.PullMessagesRequest(node=me.node))
    signed = {
        name: value
        for name, value in caught[0].items()
        if name.startswith(("flwr-", "x-hansa", "content-type"))
    }
    other = fleet_pb2.PullMessagesRequest(node=seated["hangzhou"].node).SerializeToString()
    with me.seat.http() as client:
        for again in (body, other, b"", body + b"\x00"):
            answer = client.post("/v1/fleet/pull-messages", headers=signed, content=again)
            assert answer.status_code in (400, 403)
            assert answer.status_code == 400 or answer.headers[REFUSED] == "replayed"
        for header, value in {
            "flwr-timestamp": "2020-01-01T00:00:00+00:00",
            "flwr-signature": "AAAA",
        }.items():
            answer = client.post("/v1/fleet/pull-messages", headers={**signed, header: value}, content=body)
            assert answer.status_code in (401, 403)


def test_the_superlink_listens_on_this_machine_alone(league: SimpleNamespace) -> None:
    """Of all ports that the coordinator's processes listen on, the guard's alone is the kit's `listen` address."""
    import psutil

    root = psutil.Process(league.child.process.pid)
    places = {
        (each.laddr.ip, each.laddr.port)
        for process in [root, *root.children(recursive=True)]
        for each in process.net_connections(kind="tcp")
        if each.status == psutil.CONN_LISTEN
    }
    assert {ip for ip, _ in places} == {"127.0.0.1"}
    assert len(places) == 2, places


def test_the_way_past_the_guard_needs_a_certificate_too(
    league: SimpleNamespace, seated: dict[str, SimpleNamespace]
) -> None:
    """A process of the coordinator's machine that speaks to the Fleet interface directly is no site."""
    from common.files import read_json
    from server.superlink.orders import ADDRESS

    link = read_json(league.kits / "coordinator" / "private" / ADDRESS)["superlink"]
    me = seated["bergen"]
    with me.seat.fleet() as client:
        client._base_url = f"https://{link}"
        with pytest.raises(httpx.HTTPStatusError) as caught:
            client.PullMessages(fleet_pb2.PullMessagesRequest(node=me.node))
    assert refusal(caught.value) == "certificate_missing"


def test_the_certificate_is_of_use_as_a_client_only(league: SimpleNamespace) -> None:
    """A site's certificate doesn't make it a coordinator: other sites wouldn't believe it."""
    site = league.kits / "sites" / "bergen"
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(site / "client.crt", site / "private" / "client.key")
    there, here = ssl.MemoryBIO(), ssl.MemoryBIO()
    theirs = server.wrap_bio(there, here, server_side=True)
    mine = Seat.at(league.kits, "hangzhou").tls().wrap_bio(here, there, server_hostname="127.0.0.1")
    for side in (mine, theirs):
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    with pytest.raises(ssl.SSLCertVerificationError):
        mine.do_handshake()
