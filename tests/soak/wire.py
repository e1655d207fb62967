"""HTTP to the daemon and to the simulator's admin API, and what was asked and answered. Judges nothing."""
import http.client
import itertools
import json
import threading
import time

# The daemon answers within 26 s.
ANSWER_TIME_MAX_S = 45


def exchange(connection, method, path, headers, body):
    """Status, headers and body, which is parsed when it is JSON."""
    text = None if body is None else json.dumps(body)
    connection.request(method, path, text, headers)
    response = connection.getresponse()
    raw = response.read()
    try:
        answer = json.loads(raw) if raw else None
    except ValueError:
        answer = raw.decode("utf-8", "replace")
    return response.status, dict(response.headers), answer


class Admin:
    """The simulator's admin API."""

    def __init__(self, port):
        self.port = port

    def call(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_TIME_MAX_S)
        try:
            status, _, answer = exchange(connection, method, path, {"Content-Type": "application/json"}, body)
        finally:
            connection.close()
        return status, answer

    def must(self, method, path, body=None):
        status, answer = self.call(method, path, body)
        if status != 200:
            raise RuntimeError(f"simulator: {method} {path} {body}: {status} {answer}")
        return answer

    def scan(self, phone, qr):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_TIME_MAX_S)
        try:
            connection.request("POST", f"/admin/mock-phone/scan-qr?phone={phone}", qr)
            return connection.getresponse().status == 200
        finally:
            connection.close()


class Call:
    """One request to the daemon. `status` is `None` when the connection ended without an answer."""

    def __init__(self, number, key, method, path, body, idempotency_key):
        self.number, self.key, self.method, self.path, self.body = number, key, method, path, body
        self.idempotency_key = idempotency_key
        self.request_id = f"soak-{number}"
        # Wall clock, as in the simulator's history; both are on one machine.
        self.begin = self.end = None
        self.status = self.answer = self.error = None
        self.headers = {}

    @property
    def code(self):
        return self.answer.get("code") if isinstance(self.answer, dict) else None

    @property
    def is_replayed(self):
        return any(name.lower() == "idempotency-replayed" and value == "true" for name, value in self.headers.items())

    @property
    def results(self):
        results = self.answer.get("results") if isinstance(self.answer, dict) else None
        return results if isinstance(results, list) else None

    def __str__(self):
        key = f" key={self.idempotency_key}" if self.idempotency_key else ""
        what = f"{self.method} {self.path} {json.dumps(self.body) if self.body is not None else ''}{key}"
        got = self.error or f"{self.status} {json.dumps(self.answer)[:600]}"
        return f"#{self.number} {self.key}: {what} -> {got} ({self.end - self.begin:.3f} s)"


class Api:
    """The daemon's API. Every call is kept."""

    def __init__(self, port, keys):
        self.port, self.keys = port, keys
        self.numbers = itertools.count(1)
        self.calls = []
        self.lock = threading.Lock()
        self.local = threading.local()

    def call(self, key, method, path, body=None, idempotency_key=None, keep=True):
        call = Call(next(self.numbers), key, method, path, body, idempotency_key)
        headers = {"X-API-Key": self.keys.get(key, key), "X-Request-ID": call.request_id, "Content-Type": "application/json"}
        if idempotency_key:
            headers["Idempotency-Key"] = idempotency_key
        connection = getattr(self.local, "connection", None)
        # A connection that the daemon has closed meanwhile looks like one that died with our request on it. Such a call
        # fails, and the next call opens a new connection.
        if connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_TIME_MAX_S)
        self.local.connection = None
        call.begin = time.time()
        try:
            call.status, call.headers, call.answer = exchange(connection, method, path, headers, body)
            self.local.connection = connection
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            call.error = f"{type(error).__name__}: {error}"
        call.end = time.time()
        if keep:
            with self.lock:
                self.calls.append(call)
        return call

    def take_calls(self):
        with self.lock:
            calls, self.calls = self.calls, []
        return calls
