"""What goes wrong while clients work: faults of WhatsApp, silence, restarts and kill -9, chosen by a seed. Judges nothing."""
import signal
import threading
import time

import cast

# With these weights a session that is hit by everything works for about four minutes in ten.
STEPS = [
    ("fault", 60), ("hold", 5), ("restart_simulator", 4), ("kill_daemon", 5), ("restart_daemon", 2), ("keys", 10),
]
PAUSE_MAX_S = 1.2
HOLD_S = (0.5, 6.0)
DOWN_MAX_S = 1.0
READS = ["w:g2:query", "w:g2:participating"]


class Storm(threading.Thread):
    """Does one of these after the other until it is told to stop; what it did is in `log`."""

    def __init__(self, random, processes, admin, api, stop):
        super().__init__(name="storm", daemon=True)
        self.random, self.processes, self.admin, self.api, self.stop = random, processes, admin, api, stop
        self.log, self.failure = [], None
        # Secrets of API keys that were made, and of those that were revoked, both acknowledged.
        self.live_keys, self.revoked_keys = {}, {}
        self.kills = 0

    def run(self):
        names, weights = zip(*STEPS)
        try:
            while not self.stop.wait(self.random.random() * PAUSE_MAX_S):
                name = self.random.choices(names, weights)[0]
                try:
                    getattr(self, name)()
                except OSError:
                    # The simulator is not there at the moment.
                    pass
        except Exception as failure:  # noqa: BLE001: whatever it is, the run has failed
            self.failure = failure

    def note(self, text):
        self.log.append((time.time(), text))

    def fault(self):
        phone = self.random.choice(list(cast.SESSIONS.values()))
        apply = self.random.random() < 0.5
        body = self.random.choice([
            {"fault": "drop", "now": True},
            {"fault": "drop", "apply": apply},
            {"fault": "silence", "apply": apply},
            {"fault": "silence", "apply": True},
            {"fault": "slow", "delay_ms": self.random.randrange(50, 3500)},
            {"fault": "slow", "delay_ms": self.random.randrange(50, 3500)},
            {"fault": "refuse", "code": self.random.choice([403, 500, 503])},
            {"fault": "refuse", "code": 429, "backoff": 1},
            {"fault": "stream_error"},
            {"fault": "slow", "kind": self.random.choice(READS), "delay_ms": self.random.randrange(50, 1500), "count": 3},
            {"fault": "silence", "kind": self.random.choice(READS)},
            {"fault": "refuse", "kind": self.random.choice(READS), "code": self.random.choice([403, 404, 500])},
        ])
        self.note(f"fault for {phone}: {body}")
        self.admin.call("POST", "/admin/faults", {"phone": phone, **body})

    def hold(self):
        seconds = self.random.uniform(*HOLD_S)
        self.note(f"SIGSTOP of the simulator for {seconds:.1f} s")
        self.processes.simulator.send(signal.SIGSTOP)
        time.sleep(seconds)
        self.processes.simulator.send(signal.SIGCONT)
        self.note("SIGCONT")

    def restart_simulator(self):
        self.note("simulator: SIGTERM")
        self.processes.simulator.stop()
        time.sleep(self.random.random() * DOWN_MAX_S)
        self.processes.simulator.start()
        self.note("simulator: started again")

    def kill_daemon(self):
        self.note("daemon: kill -9")
        self.kills += 1
        self.processes.daemon.kill()
        time.sleep(self.random.random() * DOWN_MAX_S)
        self.processes.daemon.start()
        self.note("daemon: started again")

    def restart_daemon(self):
        self.note("daemon: SIGTERM")
        self.processes.daemon.stop()
        self.processes.daemon.start()
        self.note("daemon: started again")

    def keys(self):
        if self.live_keys and self.random.random() < 0.5:
            identifier, secret = self.live_keys.popitem()
            call = self.api.call("admin", "POST", f"/api/auth/api-keys/{identifier}/revoke", {})
            # Without an answer the key may be revoked or not.
            if call.status == 200:
                self.revoked_keys[identifier] = secret
        else:
            call = self.api.call("admin", "POST", "/api/auth/api-keys", {"name": "soak", "role": "viewer"})
            if call.status == 201:
                self.live_keys[call.answer["id"]] = call.answer["apiKey"]
