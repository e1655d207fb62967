"""What the simulated WhatsApp really was, at every moment: timelines of groups from its history. Asks nobody but the simulator."""
import bisect


class Timeline:
    """The states of one group, in order. `None` is: there is no such group."""

    def __init__(self):
        self.times, self.actors, self.views = [], [], []

    def add(self, at, actor, view):
        self.times.append(at)
        self.actors.append(actor)
        self.views.append(view)

    def during(self, begin, end):
        """The states that held at any moment of that time, each with the time from which it held."""
        first = max(bisect.bisect_right(self.times, begin) - 1, 0)
        last = bisect.bisect_right(self.times, end)
        spans = [(at, view) for at, view in zip(self.times[first:last], self.views[first:last])]
        if not self.times or self.times[0] > begin:
            spans.insert(0, (0.0, None))
        return spans

    def changes(self, begin, end):
        """What was changed in that time: when, by whom, from what, to what."""
        first, last = bisect.bisect_left(self.times, begin), bisect.bisect_right(self.times, end)
        for index in range(first, last):
            yield self.times[index], self.actors[index], self.views[index - 1] if index else None, self.views[index]

    @property
    def now(self):
        return self.views[-1] if self.views else None

    def forget_before(self, time):
        keep = max(bisect.bisect_right(self.times, time) - 1, 0)
        del self.times[:keep], self.actors[:keep], self.views[:keep]


def role_in(view, phone):
    """`None` when that person is not in the group, or there is no group."""
    members = view["participants"] if view else []
    return next((member["role"] for member in members if member["phone"] == phone), None)


class World:
    """All timelines, kept up to date from the simulator."""

    def __init__(self, admin):
        self.admin = admin
        self.number = 0
        self.timelines = {}
        self.phones_by_lid = {}

    def begin(self):
        self.admin.must("POST", "/admin/history", {"on": True})
        self.update()

    def update(self):
        for change in self.admin.must("GET", f"/admin/history?after={self.number}"):
            if change["number"] != self.number + 1 and self.number:
                raise RuntimeError(f"the simulator's history has a gap after {self.number}")
            self.number = change["number"]
            timeline = self.timelines.setdefault(change["group"], Timeline())
            timeline.add(change["at_us"] / 1e6, change["actor"], change["view"])
            for member in (change["view"] or {}).get("participants", []):
                self.phones_by_lid[member["lid"]] = member["phone"]

    def of(self, gid):
        return self.timelines.setdefault(gid, Timeline())

    def groups_now(self):
        return {gid: timeline.now for gid, timeline in self.timelines.items() if timeline.now}

    def phone_of(self, person):
        """Of an id as the API writes it."""
        number, _, server = person.partition("@")
        return self.phones_by_lid.get(number, f"lid {number}") if server == "lid" else number

    def forget_before(self, time):
        for timeline in self.timelines.values():
            timeline.forget_before(time)


def describe(before, after):
    """What a change changed, in a few words."""
    if after is None:
        return "gone"
    if before is None:
        roles = " ".join(f"{member['phone'][-4:]}:{member['role']}" for member in after["participants"])
        return f"there as {after['subject']!r} with {roles}"
    words = []
    roles = [{member["phone"]: member["role"] for member in view["participants"]} for view in (before, after)]
    for phone in sorted({*roles[0], *roles[1]}):
        if roles[0].get(phone) != roles[1].get(phone):
            words.append(f"{phone[-4:]}: {roles[0].get(phone)} -> {roles[1].get(phone)}")
    for field in after:
        if field not in ("participants", "participant_version", "admin_version") and before[field] != after[field]:
            words.append(f"{field}: {before[field]!r} -> {after[field]!r}")
    return ", ".join(words) or "the same again"
