"""One round: a storm, then calm, then everything is held against the world. The order of things is here, and nothing else."""
import random
import threading
import time

import cast
import quiet
from clients import Client, Locks, Somebody
from judge import Judge, Violation
from storms import Storm

CLIENTS = 5
STORM_S = 12
# A call ends within 26 s; a storm's step within a start of each process.
JOIN_TIME_MAX_S = 120


class Rounds:
    """Runs rounds and counts. `log` has what was done to the processes, for the one who has to find out what went wrong."""

    def __init__(self, seed, processes, admin, api, world):
        self.seed, self.processes, self.admin, self.api, self.world = seed, processes, admin, api, world
        self.judge = Judge(world)
        self.checks, self.kills, self.number = 0, 0, 0
        self.log, self.writes, self.violations = [], [], []
        self.audited_to = 0
        # Of the round before, for stories only.
        self.writes_before, self.log_before = [], []
        # The start of the round, in seconds since 1970.
        self.began = 0.0

    def run_one(self):
        self.number += 1
        # The round before is kept: a late request in it may be the cause of what is seen now.
        self.world.forget_before(self.began)
        self.writes_before, self.log_before = self.writes, self.log
        self.began = time.time()
        stop = threading.Event()
        storm = Storm(self._random("storm"), self.processes, self.admin, self.api, stop)
        locks = Locks()
        clients = [
            Client(f"client {self.number}.{index}", self._random(index), self.api, self.world, locks, stop)
            for index in range(CLIENTS)
        ]
        somebody = Somebody(self._random("elsewhere"), self.admin, self.world, stop)
        threads = [storm, somebody, *clients]
        for thread in threads:
            thread.start()
        time.sleep(STORM_S)
        stop.set()
        for thread in threads:
            thread.join(JOIN_TIME_MAX_S)
            if thread.is_alive():
                raise RuntimeError(f"{thread.name} did not end within {JOIN_TIME_MAX_S} s")
            if thread.failure:
                raise thread.failure
        self.log, self.kills = storm.log, self.kills + storm.kills
        self.writes = [write for client in clients for write in client.writes]
        self._calm(storm)

    def _random(self, name):
        return random.Random(f"{self.seed} {self.number} {name}")

    def _calm(self, storm):
        for phone in cast.SESSIONS.values():
            self.admin.must("DELETE", f"/admin/faults/{phone}")
        self._hold_all(quiet.sessions_come_back(self.api))
        self.world.update()
        before = len(self.judge.violations)
        checks = self.judge.checks
        self.judge.judge(self.writes)
        self.violations += self.judge.violations[before:]
        self.checks += self.judge.checks - checks
        self._hold_all(quiet.caches_are_the_world(self.api, self.world))
        self._hold_all(quiet.one_connection_each(self.admin))
        self._hold_all(quiet.nothing_acknowledged_is_lost(self.api, self.writes, storm, self._random("replays")))
        verdict, self.audited_to = quiet.the_audit_log_is_whole(self.api, self.api.take_calls(), self.began, self.audited_to)
        self._hold_all(verdict)

    def _hold_all(self, held):
        """Each is `None` for what is as it should be, or a violation."""
        self.checks += len(held)
        self.violations += [violation for violation in held if isinstance(violation, Violation)]
