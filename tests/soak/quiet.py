"""What has to hold once nothing goes wrong any more. Each check gives a list with `None` for what is so, and else a violation."""
import datetime
import time

import cast
from judge import Violation

# Reconnects wait for up to 8 s here, and a session that is deaf notices within two keepalives.
READY_TIME_MAX_S = 60
# Notifications, and the reads that settle what they leave open.
QUIET_TIME_MAX_S = 20
POLL_S = 0.2
REPLAYS = 10
AUDIT_PAGE = 1000
# A QR, or something for a person to do.
NOT_BY_ITSELF = {"qr_ready", "action_required", "failed", "created"}


def _until(deadline, step):
    """`None` as soon as `step` gives no violation, or else its last one. The deadline is everybody's: a calm is bounded."""
    while True:
        found = step()
        if found is None or time.monotonic() > deadline:
            return found
        time.sleep(POLL_S)


def sessions_come_back(api):
    def step(name, seen):
        call = api.call("admin", "GET", f"/api/sessions/{name}", keep=False)
        status = call.answer.get("status") if call.status == 200 else None
        seen.append(status)
        if status in NOT_BY_ITSELF:
            seen.append("for good")
        text = f"{name} is not ready within {READY_TIME_MAX_S} s: {sorted(set(map(str, seen)))}"
        return None if status == "ready" else Violation("sessions come back by themselves", text, call=call)

    held, deadline = [], time.monotonic() + READY_TIME_MAX_S
    for name in cast.SESSIONS:
        seen = []
        held.append(_until(deadline, lambda name=name, seen=seen: step(name, seen)))
    return held


def of_world(view):
    return {
        "name": view["subject"], "description": view["description"], "announce": view["announce"], "locked": view["locked"],
        "membershipApproval": view["approval"], "ephemeralSeconds": view["ephemeral_s"],
        "participants": {member["phone"]: member["role"] for member in view["participants"]},
    }


def of_answer(group, world):
    def role(member):
        return "super_admin" if member["isSuperAdmin"] else "admin" if member["isAdmin"] else "member"
    shown = {key: group.get(key) for key in ("name", "description", "announce", "locked", "membershipApproval", "ephemeralSeconds")}
    return {**shown, "participants": {world.phone_of(member["id"]): role(member) for member in group["participants"]}}


def caches_are_the_world(api, world):
    """G-1. Each session lists just the groups that its account is in, and shows each as it is."""
    held, deadline = [], time.monotonic() + QUIET_TIME_MAX_S
    for name, phone in cast.SESSIONS.items():
        mine = {
            gid: view for gid, view in world.groups_now().items()
            if any(member["phone"] == phone for member in view["participants"])
        }
        held.append(_until(deadline, lambda: _lists(api, name, mine)))
        for gid, view in mine.items():
            held.append(_until(deadline, lambda: _shows(api, world, name, gid, view)))
    return held


def _lists(api, name, mine):
    call = api.call("admin", "GET", f"/api/sessions/{name}/groups", keep=False)
    listed = {group["id"] for group in call.answer} if call.status == 200 else None
    if listed == set(mine):
        return None
    missing, more = sorted(set(mine) - (listed or set())), sorted((listed or set()) - set(mine))
    text = f"{name} lists {call.status}: without {missing}, and with {more}, {QUIET_TIME_MAX_S} s after the storm"
    return Violation("G-1", text, gid=(missing + more + [None])[0], call=call)


def _shows(api, world, name, gid, view):
    call = api.call("admin", "GET", f"/api/sessions/{name}/groups/{gid}", keep=False)
    shown = of_answer(call.answer, world) if call.status == 200 else {}
    expected = of_world(view)
    different = {key: (shown.get(key), value) for key, value in expected.items() if shown.get(key) != value}
    if not different:
        return None
    text = f"{name} shows {gid} otherwise than it is, {QUIET_TIME_MAX_S} s after the storm (shown, is): {different}"
    return Violation("G-1", text, gid=gid, call=call)


def one_connection_each(admin):
    """K-1, and nobody was linked a second time."""
    held = []
    for account in admin.must("GET", "/admin/world")["accounts"]:
        if account["phone"] in cast.SESSIONS.values():
            connections, devices = account["live_connections_max"], len(account["devices"])
            text = f"{account['phone']} had {connections} connections at once, and has {devices} devices"
            held.append(None if connections <= 1 and devices == 1 else Violation("K-1", text))
    return held


def nothing_acknowledged_is_lost(api, writes, storm, random):
    """Keys that were made and revoked are; calls with an idempotency key are answered as they were."""
    held = []
    for wanted, keys in ((200, storm.live_keys), (401, storm.revoked_keys)):
        for identifier, secret in keys.items():
            call = api.call(secret, "GET", "/api/sessions", keep=False)
            text = f"key {identifier}: {call.status} instead of {wanted}"
            held.append(None if call.status == wanted else Violation("nothing acknowledged is lost", text, call=call))
    done = [write for write in writes if write.call.status in (200, 201) and write.call.idempotency_key]
    for write in random.sample(done, min(REPLAYS, len(done))):
        first = write.call
        again = api.call(first.key, first.method, first.path, first.body, first.idempotency_key)
        same = (again.status, again.answer) == (first.status, first.answer)
        text = f"the same request with the same key is answered otherwise\n  {again}"
        is_so = same and again.is_replayed
        held.append(None if is_so else Violation("nothing acknowledged is lost", text, write.gid, first))
    return held


def the_audit_log_is_whole(api, calls, began, audited_to):
    """It verifies, is not shorter than it was, and has each change that was acknowledged. Replays change nothing: they are
    counted in one record for many."""
    verdict = api.call("admin", "GET", "/api/audit/verify", keep=False)
    answer = verdict.answer if verdict.status == 200 else {}
    held = [None if answer.get("valid") else Violation("the audit log verifies", "it does not", call=verdict)]
    last = answer.get("lastId", 0)
    text = f"it ended at {audited_to} and ends at {last}"
    held.append(None if last >= audited_to else Violation("the audit log is whole", text, call=verdict))
    since = datetime.datetime.fromtimestamp(began - 1, datetime.timezone.utc).isoformat(timespec="milliseconds")
    since = since.replace("+00:00", "Z")
    there, offset = set(), 0
    while True:
        page = api.call("admin", "GET", f"/api/audit?from={since}&limit={AUDIT_PAGE}&offset={offset}", keep=False)
        records = page.answer["data"] if page.status == 200 else []
        there.update(record["requestId"] for record in records)
        offset += AUDIT_PAGE
        if len(records) < AUDIT_PAGE:
            break
    for call in calls:
        if call.method != "GET" and call.status in (200, 201, 204) and not call.is_replayed:
            is_there = call.request_id in there
            held.append(None if is_there else Violation("the audit log is whole", f"{call.request_id} is not in it", call=call))
    return held, last
