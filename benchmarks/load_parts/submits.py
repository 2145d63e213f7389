"""A submit, with all that it checks, against a bare INSERT behind FastAPI: one client, and several at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any

from load_parts.clients import SPEC, Client, client, compared, in_turn, new_key, put_worker_online
from load_parts.limits import Limit
from load_parts.served import BARE, Backend, Served, serving

MOST_RATIO = 5.0
CLIENTS = 8
ROUNDS = 10

Act = Callable[[], Any]


def measure(backend: Backend, requests: int) -> tuple[dict[str, Any], list[Limit]]:
    """Return the times of submits and of bare inserts, and what they are held to."""
    settings = backend.database("submits")
    with serving(settings) as api, serving(settings, BARE) as bare, ExitStack() as opened:
        _, key = new_key(api, "team")
        put_worker_online(api.database_url)

        def acts(served: Served, path: str) -> list[Act]:
            clients = [opened.enter_context(client(served, key)) for _ in range(CLIENTS)]
            return [partial(Client.send, item, "POST", path, SPEC) for item in clients]

        submits, inserts = acts(api, "/v1/jobs"), acts(bare, "/")
        single = compared(in_turn({"bare": inserts[0], "submit": submits[0]}, requests), "bare", "submit")
        several = compared(_at_once(inserts, submits, requests), "bare", "submit")
    found = {"one client": single, f"{CLIENTS} clients": several}
    limits = [
        Limit(f"submit, {name}: p99 to a bare INSERT's", row["p99_ratio"], MOST_RATIO)
        for name, row in found.items()
    ]
    return found, limits


def _at_once(inserts: list[Act], submits: list[Act], requests: int) -> dict[str, list[float]]:
    """Return the times of clients that all send as fast as they can: bare inserts and submits in short turns."""
    times: dict[str, list[float]] = {"bare": [], "submit": []}
    each = max(1, requests // ROUNDS // CLIENTS)
    with ThreadPoolExecutor(CLIENTS) as pool:
        for turn in range(ROUNDS + 1):
            for name, acts in (("bare", inserts), ("submit", submits)):
                found = [took for part in pool.map(partial(_repeat, each), acts) for took in part]
                times[name] += found if turn else []
    return times


def _repeat(count: int, act: Act) -> list[float]:
    times = []
    for _ in range(count):
        begun = time.perf_counter()
        act()
        times.append(time.perf_counter() - begun)
    return times
