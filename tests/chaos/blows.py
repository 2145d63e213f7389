"""What is done to the service while it works: planned first, as a value that follows from a seed, then done."""

from __future__ import annotations

import itertools
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import psutil

from tests.chaos.parts import processes_of
from tests.chaos.system import System, wait_until

BAG: Mapping[str, int] = {
    "child": 8,
    "pool": 4,
    "worker": 2,
    "worker group": 3,
    "flush": 2,
    "broker": 1,
    "database": 1,
    "store": 1,
}
"""How often each kind of blow falls in one round."""
_PATIENCE: Mapping[str, float] = {"child": 10, "pool": 10}
"""How long a blow waits for somebody to hit, seconds."""
ONE_OF_EACH: Mapping[str, int] = dict.fromkeys(BAG, 1)


@dataclass(frozen=True, slots=True)
class Blow:
    """One thing that is done: after so many seconds, of which kind, `draw` (0 to 1) chooses whom it hits."""

    pause: float
    kind: str
    draw: float


@dataclass(frozen=True, slots=True)
class Weather:
    """How hard and how long it is struck.

    Attributes:
        bag: How often each kind of blow falls in one round.
        rounds: How many rounds there are at most; without end if None.
        mean_pause: Mean time between two blows, seconds.
        store_seconds: How long the S3 server is away, seconds.
    """

    bag: Mapping[str, int] = field(default_factory=lambda: BAG)
    rounds: int | None = None
    mean_pause: float = 1.5
    store_seconds: float = 20


def plan(seed: int, weather: Weather) -> Iterator[Blow]:
    """Yield blows: each kind as often as the bag says, in an order and at times that the seed gives."""
    draw = random.Random(seed)
    for _ in itertools.count() if weather.rounds is None else range(weather.rounds):
        kinds = [kind for kind, count in weather.bag.items() for _ in range(count)]
        draw.shuffle(kinds)
        for kind in kinds:
            yield Blow(draw.uniform(0.2, 2 * weather.mean_pause - 0.2), kind, draw.random())


class Monkey:
    """Strikes from a thread of its own until it is told to rest."""

    def __init__(self, system: System, seed: int, weather: Weather) -> None:
        self.struck: Counter[str] = Counter()
        self._system = system
        self._plan = plan(seed, weather)
        self._store_seconds = weather.store_seconds
        self._resting = threading.Event()
        self._store_away: threading.Thread | None = None
        self._thread = threading.Thread(target=self._strike_on, name="monkey", daemon=True)

    @property
    def is_through(self) -> bool:
        """Whether every kind of blow has fallen, or its rounds are over."""
        return set(self.struck) == set(BAG) or not self._thread.is_alive()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def rest(self) -> None:
        """Strike no more; when this returns, every server is there again."""
        self._resting.set()
        self._thread.join()
        if self._store_away is not None:
            self._store_away.join()

    def _strike_on(self) -> None:
        for blow in self._plan:
            if self._resting.wait(blow.pause):
                return
            if wait_until(partial(self._hits, blow), _PATIENCE.get(blow.kind, 0)):
                self.struck[blow.kind] += 1

    def _hits(self, blow: Blow) -> bool:
        return not self._resting.is_set() and self._strike(blow)

    def _strike(self, blow: Blow) -> bool:
        """Do one blow; return whether there was something to hit."""
        actions: Mapping[str, Callable[[float], bool]] = {
            "child": self._kill_child,
            "pool": self._kill_pool,
            "worker": self._kill_worker,
            "worker group": self._kill_group,
            "flush": self._flush,
            "broker": self._restart_broker,
            "database": self._restart_database,
            "store": self._take_store_away,
        }
        return actions[blow.kind](blow.draw)

    def _kill_child(self, draw: float) -> bool:
        found = [item for item in processes_of(self._system.work_dir) if item.pid == _session(item)]
        return _kill(_chosen(found, draw))

    def _kill_pool(self, draw: float) -> bool:
        return _kill(_chosen([item for part in self._system.workers for item in part.forked()], draw))

    def _kill_worker(self, draw: float) -> bool:
        self._system.workers[int(draw * len(self._system.workers))].signal(signal.SIGKILL)
        return True

    def _kill_group(self, draw: float) -> bool:
        self._system.workers[int(draw * len(self._system.workers))].kill_group()
        return True

    def _flush(self, _: float) -> bool:
        self._system.valkey.flush()
        return True

    def _restart_broker(self, draw: float) -> bool:
        self._system.valkey.stop()
        time.sleep(3 * draw)
        self._system.valkey.start()
        return True

    def _restart_database(self, _: float) -> bool:
        self._system.postgres.restart()
        return True

    def _take_store_away(self, _: float) -> bool:
        """Beside the other blows, since they go on meanwhile."""
        if self._store_away is not None and self._store_away.is_alive():
            return False
        self._system.rclone.stop()
        self._store_away = threading.Thread(target=self._bring_store_back, daemon=True)
        self._store_away.start()
        return True

    def _bring_store_back(self) -> None:
        time.sleep(self._store_seconds)
        self._system.rclone.start()


def _session(process: psutil.Process) -> int:
    with suppress(ProcessLookupError):
        return os.getsid(process.pid)
    return 0


def _chosen(found: list[psutil.Process], draw: float) -> psutil.Process | None:
    return found[int(draw * len(found))] if found else None


def _kill(process: psutil.Process | None) -> bool:
    if process is None:
        return False
    with suppress(psutil.NoSuchProcess):
        process.kill()
        return True
    return False
