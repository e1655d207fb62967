"""Holds answers against what WhatsApp really was while they were made. Asks nobody.

- No false success: what an answer says was done was so at some moment of the call.
- No false failure: what an answer says was not done, that account did not do in the time of the call.
- G-2: the read after a success shows nothing from before it.
- One key, one group.

An answer that claims nothing (`outcome_unknown`, a key that is in use or was interrupted, no answer at all) is right whatever
happened. What such a call asked for may come true later, in the time of another call: that one is not held to "no false failure".
"""
from world import role_in

UNKNOWN = {"outcome_unknown", "idempotency_key_in_use", "idempotency_key_interrupted", "timed_out", "internal_error", "shutting_down"}
IS_TRUE = {
    "add": lambda role: role is not None,
    "remove": lambda role: role is None,
    "promote": lambda role: role in ("admin", "super_admin"),
    "demote": lambda role: role == "member",
}
# Words that say something about a person beside "it was not done".
SAYS = {"already_member": IS_TRUE["add"], "not_member": IS_TRUE["remove"]}
SETTINGS = {"announce": "announce", "locked": "locked", "membershipApproval": "approval"}


class Violation:
    """Something that must not be."""

    def __init__(self, rule, text, gid=None, call=None):
        self.rule, self.text, self.gid, self.call = rule, text, gid, call

    def __str__(self):
        return f"{self.rule}: {self.text}" + (f"\n  {self.call}" if self.call else "")


def is_unknown(call):
    return call.status is None or call.code in UNKNOWN or call.code == "whatsapp_unanswered" and call.method == "POST" \
        and call.path.endswith("/groups")


class Judge:
    """Judges the writes of one round. `checks` counts what was held against the world."""

    def __init__(self, world):
        self.world, self.violations, self.checks, self.unsure = world, [], 0, set()
        # By idempotency key: the name and the ids that were answered.
        self.created = {}

    def judge(self, writes):
        for write in sorted(writes, key=lambda write: write.call.begin):
            if write.call.status == 500:
                self._hold(False, "no internal errors", "status 500", write)
            if write.kind in IS_TRUE:
                self._people(write)
            else:
                getattr(self, f"_{write.kind}")(write)
        self.unsure.clear()

    def _hold(self, is_so, rule, text, write):
        self.checks += 1
        if not is_so:
            gid = write.gid or (write.call.answer or {}).get("id")
            self.violations.append(Violation(rule, text, gid, write.call))

    def _is_done(self, write, name, is_true):
        """Whether this account made it true in the time of the call."""
        timeline = self.world.of(write.gid)
        for _, actor, before, after in timeline.changes(write.begin, write.call.end):
            if actor == write.phone and after and is_true(after) and not (before and is_true(before)):
                return True
        return False

    def _true_at_some_moment(self, write, is_true):
        spans = self.world.of(write.gid).during(write.begin, write.call.end)
        return next((max(at, write.begin) for at, view in spans if view and is_true(view)), None)

    def _one(self, write, name, success, is_true, text, code=None):
        """One thing that was asked for: done, or not."""
        if is_unknown(write.call) or code == "outcome_unknown":
            self.unsure.add((write.session, write.gid, name))
        elif success:
            since = self._true_at_some_moment(write, is_true)
            self._hold(since is not None, "no false success", f"{text} was never so", write)
            return since
        elif (write.session, write.gid, name) not in self.unsure:
            self._hold(not self._is_done(write, name, is_true), "no false failure", f"{text} was done", write)
            # The daemon has to read after silence, but WhatsApp may still carry out the change later.
            if write.call.code == "whatsapp_unanswered":
                self.unsure.add((write.session, write.gid, name))
        return None

    def _people(self, write):
        results = {self.world.phone_of(result["id"]): result for result in write.call.results or []}
        if write.call.results is not None and not is_unknown(write.call):
            missing = [phone for phone in write.wanted if phone not in results]
            self._hold(not missing, "a result for everybody", f"none for {missing} in {sorted(results)}", write)
        for phone in write.wanted:
            result = results.get(phone, {})
            success, code = result.get("success", False), result.get("code")
            is_true = lambda view, phone=phone: IS_TRUE[write.kind](role_in(view, phone))
            since = self._one(write, phone, success, is_true, f"{write.kind} {phone} ({code})", code)
            if code in SAYS and not is_unknown(write.call):
                says = lambda view, phone=phone: SAYS[code](role_in(view, phone))
                self._hold(self._true_at_some_moment(write, says) is not None, "no false word", f"{phone} is {code}", write)
            if since is not None:
                shown = lambda group, phone=phone: self._shown_role(group, phone)
                self._read(write, since, shown, lambda view, phone=phone: role_in(view, phone), phone)

    def _shown_role(self, group, phone):
        for member in group["participants"]:
            if self.world.phone_of(member["id"]) == phone:
                return "super_admin" if member["isSuperAdmin"] else "admin" if member["isAdmin"] else "member"
        return None

    def _read(self, write, since, shown, was, name):
        """G-2: what the read shows was so at some moment from the write on."""
        read = write.read
        if read is None or read.status != 200:
            left = read is not None and read.status == 404
            spans = self.world.of(write.gid).during(since, read.end) if left else []
            is_out = any(view is None or role_in(view, write.phone) is None for _, view in spans)
            self._hold(not left or is_out, "G-2", f"the group is not found right after it was changed\n  {read}", write)
            return
        value = shown(read.answer)
        held = [was(view) for _, view in self.world.of(write.gid).during(since, read.end) if view]
        text = f"{name}: the next read shows {value!r}, and it was {held} from the write on\n  {read}"
        self._hold(value in held, "G-2", text, write)

    def _text(self, write, field):
        is_true = lambda view: view[field] == write.wanted
        since = self._one(write, field, write.call.status == 200, is_true, f"{field} {write.wanted!r}")
        if since is not None:
            key = "name" if field == "subject" else field
            self._read(write, since, lambda group: group.get(key), lambda view: view[field], field)

    def _subject(self, write):
        self._text(write, "subject")

    def _description(self, write):
        self._text(write, "description")

    def _settings(self, write):
        told = write.call.answer.get("settings") if isinstance(write.call.answer, dict) else None
        applied = told.get("applied", []) if isinstance(told, dict) else []
        for name, value in write.wanted.items():
            field = SETTINGS[name]
            is_true = lambda view, field=field, value=value: view[field] == value
            success = write.call.status == 200 or name in applied
            since = self._one(write, name, success, is_true, f"{name} {value}")
            if since is not None and write.call.status == 200:
                shown = lambda group, name=name: group.get(name)
                self._read(write, since, shown, lambda view, field=field: view[field], name)

    def _leave(self, write):
        is_true = lambda view: role_in(view, write.phone) is None
        self._one(write, write.phone, write.call.status == 200, is_true, "leaving")

    def _join(self, write):
        pending = isinstance(write.call.answer, dict) and write.call.answer.get("status") == "pending_approval"
        asks = lambda view: any(request["phone"] == write.phone for request in view["join_requests"])
        is_in = lambda view: role_in(view, write.phone) is not None
        self._one(write, write.phone, write.call.status == 200, asks if pending else is_in, "joining")

    def _foreign(self, write):
        call = write.call
        self._hold(call.status in (401, 429, 503, None), "tenants", "a key reached a session that is not its own", write)

    def _create(self, write):
        name, phones = write.wanted
        made = self.groups_called(name)
        self._hold(len(made) <= 1, "one key, one group", f"{name!r} is there as {made}", write)
        if is_unknown(write.call):
            return
        if write.call.status != 201:
            in_time = [gid for gid in made if write.call.begin <= self.world.of(gid).times[0] <= write.call.end]
            self._hold(not in_time, "no false failure", f"{name!r} was made as {in_time}", write)
            return
        gid = write.call.answer["id"]
        self._hold(made == [gid], "no false success", f"{gid} is not {made}, which are called {name!r}", write)
        write.gid = gid
        for result in write.call.answer["results"]:
            phone = self.world.phone_of(result["id"])
            if result["success"]:
                is_in = lambda view, phone=phone: role_in(view, phone) is not None
                self._one(write, phone, True, is_in, f"{phone} in the new group")
            self._hold(phone in phones, "a result for everybody", f"{phone} was not asked for", write)

    def groups_called(self, name):
        """All groups that ever had this name."""
        timelines = self.world.timelines.items()
        return [gid for gid, timeline in timelines if any(view and view["subject"] == name for view in timeline.views)]
