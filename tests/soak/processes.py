"""The simulator and the daemon as child processes: started, stopped, killed, held, on the same ports and files. Knows no HTTP."""
import os
import signal
import socket
import subprocess
import threading
import time

# A debug build on a busy machine starts within seconds.
START_TIME_MAX_S = 60
# The daemon gives requests under way 10 s, the simulator writes one file.
STOP_TIME_MAX_S = 30
POLL_S = 0.02


def free_port():
    with socket.socket() as there:
        there.bind(("127.0.0.1", 0))
        return there.getsockname()[1]


class Child:
    """One process that is started again and again; what it writes goes into one file."""

    def __init__(self, name, command, variables, log_path, ready_line):
        self.name, self.command, self.log_path, self.ready_line = name, command, log_path, ready_line
        kept = {key: value for key, value in os.environ.items() if not key.startswith("ROOKERY_")}
        self.variables = {**kept, **variables}
        self.process = None
        self.lock = threading.Lock()

    def start(self):
        with self.lock:
            log = open(self.log_path, "ab")
            begin = log.tell()
            self.process = subprocess.Popen(self.command, env=self.variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            log.close()
        deadline = time.monotonic() + START_TIME_MAX_S
        while self.ready_line not in self._written_since(begin):
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended with {self.process.returncode}; see {self.log_path}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} does not say `{self.ready_line.decode()}`; see {self.log_path}")
            time.sleep(POLL_S)

    def _written_since(self, begin):
        with open(self.log_path, "rb") as log:
            log.seek(begin)
            return log.read()

    def send(self, number):
        with self.lock:
            if self.process and self.process.poll() is None:
                self.process.send_signal(number)

    def kill(self):
        """kill -9."""
        self.send(signal.SIGKILL)
        if self.process:
            self.process.wait()

    def stop(self):
        """SIGTERM, and the time to end in good order. The exit code."""
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        try:
            return self.process.wait(STOP_TIME_MAX_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def runs(self):
        return self.process is not None and self.process.poll() is None


class Processes:
    """Both of them, and where they listen."""

    def __init__(self, binary, directory, key, seed):
        whatsapp, admin, api = free_port(), free_port(), free_port()
        self.admin_port, self.api_port = admin, api
        data = os.path.join(directory, "data")
        os.makedirs(data, mode=0o700)
        self.simulator = Child(
            "simulator",
            [binary, "simulator", "--listen", f"127.0.0.1:{whatsapp}", "--admin", f"127.0.0.1:{admin}",
             "--seed", str(seed), "--state", os.path.join(directory, "world.json")],
            {}, os.path.join(directory, "simulator.log"), b"ready\n")
        self.daemon = Child(
            "daemon", [binary, "serve"],
            {
                "ROOKERY_BOOTSTRAP_KEY": key,
                "ROOKERY_LISTEN": f"127.0.0.1:{api}",
                "ROOKERY_DATA_DIR": data,
                "ROOKERY_WHATSAPP_URL": f"ws://127.0.0.1:{whatsapp}/ws/chat",
                # Faults that do not answer would fill the time otherwise.
                "ROOKERY_WHATSAPP_TIMEOUT_MS": "2000",
                "ROOKERY_LIMIT_CREATE": "off", "ROOKERY_LIMIT_ADD": "off",
                "ROOKERY_LIMIT_WRITE": "off", "ROOKERY_LIMIT_QUERY": "off",
                "ROOKERY_KEY_RATE": "off", "ROOKERY_FAILED_LOGINS": "off",
                "ROOKERY_LOG": "info",
            },
            os.path.join(directory, "daemon.log"), b"serving listen=")

    def end(self):
        for child in (self.daemon, self.simulator):
            child.send(signal.SIGCONT)
            child.kill()
