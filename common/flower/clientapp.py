"""One message of a SuperNode's task, answered in this process.

Flower starts a fresh process per message, which imports torch anew and runs the code that the coordinator sent.
"""

from __future__ import annotations

from collections.abc import Callable

from flwr.app import Context, Message
from flwr.common.serde import context_to_proto
from flwr.proto.runtime_pb2 import PushTaskOutputRequest
from flwr.supercore.heartbeat import HeartbeatSender, make_task_heartbeat_fn_http
from flwr.supercore.interceptors import RuntimeTokenHttpInterceptor, RuntimeVersionHttpInterceptor
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message

Answer = Callable[[Message, Context, bytes], Message]
"""(message, context, the coordinator's bundle of code) → reply."""
_COMPLETED, _FAILED = "completed", "failed"


def answer_task(node: str, token: str, answer: Answer) -> None:
    """Answer the one message of a task, with a sign of life meanwhile.

    Parameters
    ----------
    node : host:port of the SuperNode.

    Raises
    ------
    httpx.HTTPError : the message or the reply can't be passed on.
    """
    with RuntimeHttpClient.from_server_address(
        node, True, None,
        [RuntimeVersionHttpInterceptor(component_name="flwr-clientapp"), RuntimeTokenHttpInterceptor(token)],
    ) as client:  # fmt: skip
        heartbeat = HeartbeatSender(make_task_heartbeat_fn_http(client))
        heartbeat.start()
        context: Context | None = None
        status, details = _FAILED, "the message couldn't be read"
        try:
            message, context, _run, bundle = pull_task_input(client)
            reply = answer(message, context, bundle.content)
            push_message(client, reply, context)
            status, details = _COMPLETED, ""
        finally:
            if heartbeat.is_running:
                heartbeat.stop()
            told = context_to_proto(context) if context else None
            client.PushTaskOutput(PushTaskOutputRequest(context=told, sub_status=status, details=details))
