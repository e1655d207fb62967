"""Clients that do random things to random groups through the daemon, and somebody who does so elsewhere. Judges nothing.

At most one write of a session about the same person (or text, or setting) of a group is under way at a time: so whatever that
account did to it in that time was done by that call.
"""
import contextlib
import threading
import time

import cast

PAUSE_MAX_S = 0.15
# One request in so many is sent again, with the same key, at once.
AGAIN = 8


class Write:
    """What a call wants to be true. `judge.py` has the meaning of each kind."""

    def __init__(self, kind, session, gid, wanted, call, read=None):
        # `read` is the GET that followed, when the call was a success.
        self.kind, self.session, self.gid, self.wanted, self.call, self.read = kind, session, gid, wanted, call, read
        self.phone = cast.SESSIONS[session]
        # The earliest time at which the change may have been made. A replayed answer is about the time of the earlier
        # call.
        self.begin = call.begin


class Locks:
    """Names that somebody has. Never waits."""

    def __init__(self):
        self.held, self.lock = set(), threading.Lock()

    @contextlib.contextmanager
    def all_of(self, names):
        names = set(names)
        with self.lock:
            got = not names & self.held
            if got:
                self.held |= names
        try:
            yield got
        finally:
            if got:
                with self.lock:
                    self.held -= names


class Client(threading.Thread):
    """Sends one request after the other until it is told to stop."""

    def __init__(self, name, random, api, world, locks, stop):
        super().__init__(name=name, daemon=True)
        self.random, self.api, self.world, self.locks, self.stop = random, api, world, locks, stop
        self.writes, self.failure, self.count = [], None, 0

    def run(self):
        try:
            while not self.stop.is_set():
                self.step()
                time.sleep(self.random.random() * PAUSE_MAX_S)
        except Exception as failure:  # noqa: BLE001: whatever it is, the run has failed
            self.failure = failure

    def step(self):
        session = self.random.choice(list(cast.SESSIONS))
        groups = self.world.groups_now()
        mine = sorted(gid for gid, view in groups.items() if self._role(view, session))
        gid = self.random.choice(mine) if mine else None
        kind = self.random.choices(
            ["people", "subject", "description", "settings", "create", "leave", "join", "foreign", "read"],
            [40, 8, 6, 10, 5, 2, 4, 2, 10])[0]
        if kind == "create":
            if len(groups) < cast.GROUPS_MAX:
                self.do_create(session)
        elif kind == "join":
            self.do_join(session, groups)
        elif gid is not None:
            getattr(self, f"do_{kind}")(session, gid, groups[gid])

    @staticmethod
    def _role(view, session):
        return next((member["role"] for member in view["participants"] if member["phone"] == cast.SESSIONS[session]), None)

    def _write(self, kind, session, gid, wanted, method, rest, body=None):
        """With an idempotency key most of the time, and a failure sometimes again with the same key."""
        self.count += 1
        key = f"{self.name}-{self.count}" if self.random.random() < 0.8 else None
        path = f"/api/sessions/{session}/groups{rest}"
        first = None
        for _ in range(2 if key and self.random.randrange(AGAIN) == 0 else 1):
            read, call = None, self.api.call(cast.tenant_of(session), method, path, body, key)
            if call.status == 200 and kind not in ("leave", "join"):
                # G-2: read before anybody else may change the same thing through this session.
                read = self.api.call(cast.tenant_of(session), "GET", f"/api/sessions/{session}/groups/{gid}")
            write = Write(kind, session, gid, wanted, call, read)
            if first and call.is_replayed:
                write.begin = first.begin
            first = first or call
            self.writes.append(write)
            if call.status == 200:
                return

    def do_people(self, session, gid, view):
        change = self.random.choice(["add", "remove", "promote", "demote"])
        others = [*cast.PEOPLE, cast.INVITE_ONLY, cast.UNADDABLE, cast.HIDDEN, cast.NOWHERE]
        phones = self.random.sample(others, self.random.choice([1, 1, 1, 2, 3]))
        with self.locks.all_of((session, gid, phone) for phone in phones) as got:
            if not got:
                return
            names = [self._id_of(phone) for phone in phones]
            method, rest = {
                "add": ("POST", ""), "remove": ("DELETE", ""), "promote": ("POST", "/promote"), "demote": ("POST", "/demote"),
            }[change]
            body = {"participants": names}
            self._write(change, session, gid, phones, method, f"/{gid}/participants{rest}", body)

    def _id_of(self, phone):
        lids = {number: lid for lid, number in self.world.phones_by_lid.items()}
        if phone == cast.HIDDEN:
            return f"{cast.HIDDEN_LID}@lid"
        return f"{lids[phone]}@lid" if phone in lids and self.random.random() < 0.2 else phone

    def _text(self, field, session, gid):
        with self.locks.all_of([(session, gid, field)]) as got:
            if got:
                text = f"{field} {self.name} {self.count}"
                self._write(field, session, gid, text, "PUT", f"/{gid}/{field}", {field: text})

    def do_subject(self, session, gid, view):
        self._text("subject", session, gid)

    def do_description(self, session, gid, view):
        self._text("description", session, gid)

    def do_settings(self, session, gid, view):
        names = self.random.sample(["announce", "locked", "membershipApproval"], self.random.choice([1, 2]))
        with self.locks.all_of((session, gid, name) for name in names) as got:
            if got:
                wanted = {name: self.random.random() < 0.5 for name in names}
                self._write("settings", session, gid, wanted, "PUT", f"/{gid}/settings", wanted)

    def do_create(self, session):
        name = f"made by {self.name} {self.count}"
        others = [*cast.PEOPLE, cast.INVITE_ONLY, cast.NOWHERE]
        phones = self.random.sample(others, self.random.choice([1, 2, 3]))
        self.count += 1
        key = f"{self.name}-{self.count}"
        body = {"name": name, "participants": phones}
        for _ in range(self.random.choice([1, 1, 2, 3])):
            call = self.api.call(cast.tenant_of(session), "POST", f"/api/sessions/{session}/groups", body, key)
            self.writes.append(Write("create", session, None, (name, phones), call))
            if call.status == 201:
                break

    def do_leave(self, session, gid, view):
        # The groups of the start are still needed.
        if not view["subject"].startswith("made by") or len(view["participants"]) < 3:
            return
        with self.locks.all_of([(session, gid, cast.SESSIONS[session])]) as got:
            if got:
                self._write("leave", session, gid, None, "POST", f"/{gid}/leave")

    def do_join(self, session, groups):
        others = sorted(gid for gid, view in groups.items() if not self._role(view, session))
        if not others:
            return
        gid = self.random.choice(others)
        with self.locks.all_of([(session, gid, cast.SESSIONS[session])]) as got:
            if got:
                self._write("join", session, gid, None, "POST", "/join", {"inviteCode": groups[gid]["invite_code"]})

    def do_foreign(self, session, gid, view):
        """With the key of somebody else: never more than 401."""
        key = next(tenant for tenant in cast.TENANTS if tenant != cast.tenant_of(session))
        method, body = self.random.choice([("GET", None), ("DELETE", {"participants": [cast.PEOPLE[0]]})])
        path = f"/api/sessions/{session}/groups/{gid}" + ("/participants" if body else "")
        self.writes.append(Write("foreign", session, gid, None, self.api.call(key, method, path, body)))

    def do_read(self, session, gid, view):
        rest = self.random.choice([f"/{gid}", f"/{gid}?refresh=true", f"/{gid}/participants", "", f"/{gid}/invite-code"])
        self.api.call(cast.tenant_of(session), "GET", f"/api/sessions/{session}/groups{rest}", keep=False)


class Somebody(threading.Thread):
    """Changes groups on a phone that no session belongs to."""

    def __init__(self, random, admin, world, stop):
        super().__init__(name="elsewhere", daemon=True)
        self.random, self.admin, self.world, self.stop, self.failure = random, admin, world, stop, None

    def run(self):
        count = 0
        while not self.stop.is_set():
            count += 1
            try:
                self.step(count)
            except OSError:
                # The simulator is held, or restarts.
                pass
            time.sleep(self.random.random() * 2 * PAUSE_MAX_S)

    def step(self, count):
        groups = self.world.groups_now()
        gid = self.random.choice(sorted(groups))
        change = self.random.choice(["add", "add", "remove", "remove", "promote", "demote", "subject", "announce", "locked"])
        body = {"actor": self.random.choice(cast.ELSEWHERE)}
        if change == "subject":
            body["subject"] = f"from elsewhere {count}"
        elif change in ("announce", "locked"):
            body["on"] = self.random.random() < 0.5
        else:
            body["participants"] = self.random.sample([*cast.PEOPLE, cast.HIDDEN], self.random.choice([1, 1, 2]))
        # Refusals are no changes.
        self.admin.call("POST", f"/admin/groups/{gid}/{change}", body)
