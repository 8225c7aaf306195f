"""Ask sites and take their replies: push, poll with a short back-off, give up at the deadline.

Invariant: each request is answered exactly once, by the reply to that very message or by None when the
deadline passed. Replies are pulled in site order through a narrow window, so that those of later sites wait
with Flower and not in the coordinator's memory; the window widens only while the sites at its head are
late.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

_WINDOW = 8
_FIRST_PAUSE_S = 0.002
_LONGEST_PAUSE_S = 0.5


def exchange(
    grid: Grid,
    requests: Mapping[str, tuple[int, RecordDict]],
    message_type: str,
    *,
    group: str,
    deadline_s: float,
) -> Iterator[tuple[str, Message | None]]:
    """Send one message to each site and yield (site, reply) as replies come; (site, None) for those that came too late.

    Parameters
    ----------
    requests : site name → (node id, records), in site order.
    group : Flower's group of the messages, here the round.
    deadline_s : seconds until the missing replies are given up; also each message's time to live.
    """
    ends = time.monotonic() + deadline_s
    messages = [
        Message(content, dst_node_id=node, message_type=message_type, ttl=deadline_s, group_id=group)
        for node, content in requests.values()
    ]
    ids = list(grid.push_messages(messages))
    del messages  # Flower holds them now; a copy here would pin the vector for the whole round
    pending = {id_: site for id_, site in zip(ids, requests, strict=True) if id_}
    refused = [site for id_, site in zip(ids, requests, strict=True) if not id_]
    yield from ((site, None) for site in refused)

    window, pause_s = _WINDOW, _FIRST_PAUSE_S
    while pending:
        late = time.monotonic() > ends
        replies = 0
        for reply in grid.pull_messages(list(pending)[: None if late else window]):
            site = pending.pop(reply.metadata.reply_to_message_id, None)
            if site is not None:
                replies += 1
                yield site, reply
        if late:
            break
        if replies:
            window, pause_s = _WINDOW, _FIRST_PAUSE_S
        else:
            time.sleep(pause_s)
            window, pause_s = window * 2, min(pause_s * 1.5, _LONGEST_PAUSE_S)
    yield from ((site, None) for site in pending.values())
