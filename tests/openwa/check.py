"""Drives sessions and groups of a running daemon with the PyPI package `rmyndharis-openwa`, a client that others wrote.

Started by `tests/openwa/run`, which says where everything is. Each check is one sentence and looks at the content of
the answer and, after a change, at the simulated WhatsApp itself. They build on each other and run in this order; one
that fails does not keep the others from running.

Of the client these cannot work yet, as their routes come later: `contacts` but for `check`, and of `chats` the list
and presence. `status`, `labels`, `channels`, `catalog`, `templates`, `search`, `calls` and
`media` are not supported.
"""

import base64
import http.server
import json
import os
import struct
import sys
import threading
import time
import traceback
import urllib.parse
import urllib.request
import zlib
from datetime import datetime

from openwa import OpenWAClient, verify_webhook_signature
from openwa.errors import (
    OpenWAApiError,
    OpenWAAuthError,
    OpenWAConflictError,
    OpenWAForbiddenError,
    OpenWANotFoundError,
    OpenWANotImplementedError,
)

BASE = os.environ["CHECK_BASE_URL"]
ADMIN = os.environ["CHECK_ADMIN_URL"]
KEY = os.environ["CHECK_API_KEY"]

OWN = "15550100001"
TEAM = ["15550100002", "15550100003"]
OTHER = "15550100030"
# Everything here takes well under a second; the machine may be busy with other things.
WAIT_S = 20

ANN, BEN = "628123456789", "628987654321"
INVITE_ONLY = "15550100020"
NOT_ON_WHATSAPP = "15550100099"
UNKNOWN_GROUP = "120363000000000001@g.us"

client = OpenWAClient(BASE, KEY)
session_id = ""
team = created = foreign = ""
checks = []


class Receiver(http.server.BaseHTTPRequestHandler):
    """Takes deliveries: their header fields and raw bodies."""

    taken = []
    url = ""

    def do_POST(self):
        self.taken.append((self.headers, self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def receive():
    """Starts the receiver, on the port that the daemon may deliver to."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["CHECK_RECEIVER_PORT"])), Receiver)
    Receiver.url = f"http://127.0.0.1:{server.server_port}/hook"
    threading.Thread(target=server.serve_forever, daemon=True).start()


def check(function):
    """Registers a check; its name is the sentence."""
    checks.append(function)
    return function


# Calls that the client does not have: the simulator's side, and the QR as text.


def call(method, url, body=None, headers=None):
    """Text of the answer; anything but a success raises."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **(headers or {})}, method=method)
    with urllib.request.urlopen(request, timeout=WAIT_S) as response:
        return response.read().decode()


def admin(path, body):
    return json.loads(call("POST", f"{ADMIN}/admin/{path}", body))


def world():
    return json.loads(call("GET", f"{ADMIN}/admin/world"))


def group_in_world(gid):
    return next((group for group in world()["groups"] if group["id"] == gid), None)


def account_in_world(phone):
    return next(account for account in world()["accounts"] if account["phone"] == phone)


def members_in_world(gid):
    """Phone number -> role."""
    return {one["phone"]: one["role"] for one in group_in_world(gid)["participants"]}


def received(phone, message_id):
    """What the phone has got, which may come a moment after WhatsApp has taken it."""

    def look():
        now = json.loads(call("GET", f"{ADMIN}/admin/accounts/{phone}/messages"))
        found = next((one for one in now if one["id"] == message_id), None)
        return found is not None, found or now

    return until(f"message {message_id}", look)


def qr_text(session):
    return call("GET", f"{BASE}/api/sessions/{session}/qr?format=text", headers={"X-API-Key": KEY})


def scan(qr, phone):
    url = f"{ADMIN}/admin/mock-phone/scan-qr?" + urllib.parse.urlencode({"phone": phone})
    return json.loads(call("POST", url, qr.encode()))


def until(what, look):
    """Polls until `look` answers (True, its result); an error of the client counts as not yet."""
    deadline, last = time.monotonic() + WAIT_S, None
    while time.monotonic() < deadline:
        try:
            done, last = look()
            if done:
                return last
        except OpenWAApiError as error:
            last = f"{error.status} {error.body}"
        time.sleep(0.02)
    raise AssertionError(f"not in time: {what}; last: {last}")


def until_status(session, status):
    def look():
        last = client.sessions.get(session)
        assert last["status"] not in ("failed", "action_required"), last
        return last["status"] == status, last

    return until(f"{session} is {status}", look)


def refused(kind, status, method, *arguments):
    """The error that the client raises: its class, its status, and the shape that every error has."""
    try:
        answer = method(*arguments)
    except OpenWAApiError as error:
        assert type(error) is kind and error.status == status, f"{type(error).__name__} {error.status}: {error.body}"
        assert error.body["statusCode"] == status, error.body
        assert isinstance(error.body["message"], (str, list)) and error.error_kind == error.body["error"], error.body
        assert error.code and error.code == error.body["code"], error.body
        assert error.headers["x-request-id"], error.headers
        return error
    raise AssertionError(f"not refused: {answer}")


def same(actual, expected):
    assert actual == expected, f"{actual!r} is not {expected!r}"


def jid(phone):
    return f"{phone}@c.us"


def roles(group):
    """Phone number -> (isAdmin, isSuperAdmin), as the daemon has it."""
    for one in group["participants"]:
        same(one["id"], jid(one["number"]))
    return {one["number"]: (one["isAdmin"], one["isSuperAdmin"]) for one in group["participants"]}


MEMBER, IS_ADMIN, IS_OWNER = (False, False), (True, False), (True, True)


# Before anything is linked.


@check
def health_needs_no_key():
    stranger = OpenWAClient(BASE, "no-key-at-all")
    health = stranger.health.check()
    same(health["status"], "ok")
    datetime.fromisoformat(health["timestamp"].replace("Z", "+00:00"))
    same(stranger.health.live()["status"], "ok")
    ready = stranger.health.ready()
    same(ready["status"], "ok")
    assert ready["details"] and all(part["status"] == "up" for part in ready["details"].values()), ready


@check
def the_key_is_valid_and_an_admins():
    answer = client.auth()
    same((answer["valid"], answer["role"]), (True, "admin"))


@check
def an_unknown_key_is_an_auth_error():
    stranger = OpenWAClient(BASE, "an-unknown-key-0123456789-abcdefghij")
    for call in (stranger.auth, stranger.sessions.list):
        refused(OpenWAAuthError, 401, call)


@check
def a_session_is_created():
    global session_id
    made = client.sessions.create({"name": "my-session"})
    session_id = made["id"]
    expected = {"name": "my-session", "status": "created", "phone": None, "pushName": None, "connectedAt": None}
    same({key: made[key] for key in expected}, expected)
    same((made["lastError"], made["restriction"], made["engineLoaded"]), (None, None, False))
    datetime.fromisoformat(made["createdAt"].replace("Z", "+00:00"))
    same(client.sessions.get(session_id), made)
    same(client.sessions.get("my-session"), made)


@check
def a_second_session_of_that_name_is_a_conflict():
    refused(OpenWAConflictError, 409, client.sessions.create, {"name": "my-session"})


@check
def a_bad_name_is_a_400_that_names_the_field():
    error = refused(OpenWAApiError, 400, client.sessions.create, {"name": "a b"})
    assert any("name" in message for message in error.body["message"]), error.body
    error = refused(OpenWAApiError, 400, client.sessions.create, {"name": "fine", "colour": "red"})
    same(error.body["message"], ["property colour should not exist"])


@check
def sessions_are_listed_newest_first_page_by_page_and_by_name():
    client.sessions.create({"name": "another"})
    same([one["name"] for one in client.sessions.list()], ["another", "my-session"])
    same([one["name"] for one in client.sessions.list({"limit": 1, "offset": 1})], ["my-session"])
    same([one["id"] for one in client.sessions.list({"name": "my-session"})], [session_id])
    same(client.sessions.list({"name": "My-Session"}), [])


@check
def an_unknown_session_is_not_found():
    error = refused(OpenWANotFoundError, 404, client.sessions.get, "nobody")
    same(error.body["message"], "Session with id 'nobody' not found")
    refused(OpenWANotFoundError, 404, client.groups.list, "nobody")


@check
def groups_of_a_session_that_was_not_started_are_a_400():
    error = refused(OpenWAApiError, 400, client.groups.list, session_id)
    same(error.body["message"], "Session is not started")
    refused(OpenWAApiError, 400, client.sessions.get_qr_code, session_id)


# Linking.


@check
def a_started_session_shows_a_qr():
    same(client.sessions.start(session_id)["status"], "initializing")
    refused(OpenWAApiError, 400, client.sessions.start, session_id)
    answer = until("a QR", lambda: (True, client.sessions.get_qr_code(session_id)))
    same(answer["status"], "qr_ready")
    head, picture = answer["qrCode"].split(",")
    same(head, "data:image/png;base64")
    assert base64.b64decode(picture, validate=True).startswith(b"\x89PNG\r\n"), picture[:20]


@check
def groups_of_a_session_that_is_not_linked_are_a_conflict():
    error = refused(OpenWAConflictError, 409, client.groups.list, session_id)
    same(error.body["message"], "Session is not connected")


@check
def a_phone_that_scans_the_qr_makes_it_ready():
    same(scan(qr_text(session_id), OWN), {"phone": OWN})
    now = until_status(session_id, "ready")
    same((now["phone"], now["pushName"], now["lastError"], now["engineLoaded"]), (OWN, "Alice", None, True))
    assert now["connectedAt"] and now["lastActive"], now
    refused(OpenWAApiError, 400, client.sessions.get_qr_code, session_id)


@check
def another_session_is_linked_by_pairing_code():
    client.sessions.start("another")
    until_status("another", "qr_ready")
    answer = client.sessions.request_pairing_code("another", {"phoneNumber": OTHER})
    code = answer["pairingCode"]
    assert len(code) == 8 and code.isalnum(), answer
    same(client.sessions.request_pairing_code("another", {"phoneNumber": OTHER})["pairingCode"], code)
    admin("mock-phone/enter-code", {"phone": OTHER, "code": code})
    same(until_status("another", "ready")["phone"], OTHER)
    same(client.groups.list("another"), [])


def grey_png(side):
    """A PNG of one grey, in base64."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\x80" * side) * side)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return base64.b64encode(png).decode()


# Groups.


@check
def a_number_is_checked_in_any_spelling():
    country, area, local = TEAM[0][:1], TEAM[0][1:4], TEAM[0][4:]
    checked = client.contacts.check(session_id, f"+{country} ({area}) {local}")
    same(checked, {"number": TEAM[0], "exists": True, "whatsappId": jid(TEAM[0])})
    same(client.contacts.check(session_id, NOT_ON_WHATSAPP), {"number": NOT_ON_WHATSAPP, "exists": False})


@check
def groups_are_listed_by_id():
    listed = client.groups.list(session_id)
    expected = [
        {"id": team, "name": "Project Team", "participantsCount": 3, "isAdmin": True},
        {"id": foreign, "name": "Neighbourhood", "participantsCount": 3, "isAdmin": False},
    ]
    for group in expected:
        group.update(linkedParentJID=None, isCommunity=False)
    same(listed, sorted(expected, key=lambda group: group["id"]))
    same(client.groups.list(session_id, {"limit": 1, "offset": 1}), listed[1:])


@check
def a_group_is_read():
    group = client.groups.get(session_id, team)
    same((group["id"], group["name"], group["owner"]), (team, "Project Team", jid(OWN)))
    same(roles(group), {OWN: IS_OWNER, **{phone: MEMBER for phone in TEAM}})
    same((group["isReadOnly"], group["isAnnounce"], group["announce"], group["locked"]), (False,) * 4)
    same((group["description"], group["linkedParentJID"]), ("Where we talk", None))
    assert isinstance(group["createdAt"], int) and group["createdAt"] > 1_000_000_000, group


@check
def a_group_is_created_without_those_who_were_refused():
    global created
    made = client.groups.create(session_id, {"name": "Launch", "participants": [jid(ANN), jid(INVITE_ONLY)]})
    created = made["id"]
    same((made["name"], made["participantsCount"], made["isAdmin"]), ("Launch", 2, True))
    same([(one["id"], one["success"]) for one in made["results"]], [(jid(ANN), True), (jid(INVITE_ONLY), False)])
    same(made["results"][1]["code"], "invite_required")
    same(members_in_world(created), {OWN: "super_admin", ANN: "member"})
    same(roles(client.groups.get(session_id, created)), {OWN: IS_OWNER, ANN: MEMBER})
    assert created in [group["id"] for group in client.groups.list(session_id)]


@check
def adding_tells_who_was_refused_and_why():
    people = [BEN, jid(INVITE_ONLY), jid(NOT_ON_WHATSAPP), jid(TEAM[0])]
    answer = client.groups.add_participants(session_id, team, people)
    same((answer["success"], answer["message"]), (True, "Participants added"))
    outcomes = [(one["id"], one["success"], one["code"]) for one in answer["results"]]
    expected = [
        (jid(BEN), True, "added"),
        (jid(INVITE_ONLY), False, "invite_required"),
        (jid(NOT_ON_WHATSAPP), False, "not_on_whatsapp"),
        (jid(TEAM[0]), False, "already_member"),
    ]
    same(outcomes, expected)
    same(set(members_in_world(team)), {OWN, *TEAM, BEN})
    same(set(roles(client.groups.get(session_id, team))), {OWN, *TEAM, BEN})


@check
def adding_only_people_who_are_refused_is_forbidden():
    error = refused(OpenWAForbiddenError, 403, client.groups.add_participants, session_id, team, [jid(INVITE_ONLY)])
    same([(one["id"], one["code"]) for one in error.body["results"]], [(jid(INVITE_ONLY), "invite_required")])


@check
def participants_are_promoted_and_demoted():
    answer = client.groups.promote_participants(session_id, team, [jid(BEN)])
    same((answer["success"], answer["message"]), (True, "Participants promoted to admin"))
    same([(one["id"], one["code"]) for one in answer["results"]], [(jid(BEN), "promoted")])
    same((members_in_world(team)[BEN], roles(client.groups.get(session_id, team))[BEN]), ("admin", IS_ADMIN))
    answer = client.groups.demote_participants(session_id, team, [jid(BEN)])
    same((answer["success"], answer["message"]), (True, "Participants demoted from admin"))
    same([(one["id"], one["code"]) for one in answer["results"]], [(jid(BEN), "demoted")])
    same((members_in_world(team)[BEN], roles(client.groups.get(session_id, team))[BEN]), ("member", MEMBER))


@check
def participants_are_removed():
    answer = client.groups.remove_participants(session_id, team, [jid(BEN), jid(ANN)])
    same((answer["success"], answer["message"]), (True, "Participants removed"))
    outcomes = [(one["id"], one["success"], one["code"]) for one in answer["results"]]
    same(outcomes, [(jid(BEN), True, "removed"), (jid(ANN), False, "not_member")])
    same(set(members_in_world(team)), {OWN, *TEAM})
    same(set(roles(client.groups.get(session_id, team))), {OWN, *TEAM})


@check
def the_subject_is_changed():
    answer = client.groups.set_subject(session_id, team, "Équipe 🚀")
    same(answer, {"success": True, "message": "Group subject updated"})
    same(group_in_world(team)["subject"], "Équipe 🚀")
    same(client.groups.get(session_id, team)["name"], "Équipe 🚀")


@check
def the_description_is_changed_and_cleared():
    same(
        client.groups.set_description(session_id, team, "Two\nlines"),
        {"success": True, "message": "Group description updated"},
    )
    same((group_in_world(team)["description"], client.groups.get(session_id, team)["description"]), ("Two\nlines",) * 2)
    same(client.groups.set_description(session_id, team, "")["success"], True)
    same(group_in_world(team)["description"], None)
    assert "description" not in client.groups.get(session_id, team)


@check
def the_invite_code_is_read_and_revoked():
    before = client.groups.invite_code(session_id, team)
    same(before["inviteCode"], group_in_world(team)["invite_code"])
    same(before["inviteLink"], f"https://chat.whatsapp.com/{before['inviteCode']}")
    after = client.groups.revoke_invite_code(session_id, team)
    assert after["inviteCode"] != before["inviteCode"], after
    same(after["inviteCode"], group_in_world(team)["invite_code"])
    same(after["inviteLink"], f"https://chat.whatsapp.com/{after['inviteCode']}")
    same(after["message"], "Invite code revoked and new one generated")
    same(client.groups.invite_code(session_id, team)["inviteCode"], after["inviteCode"])


@check
def settings_are_read_and_changed():
    before = client.groups.get_group_settings(session_id, team)
    same((before["announce"], before["locked"]), (False, False))
    client.groups.update_group_settings(session_id, team, {"announce": True, "ephemeralSeconds": 86400})
    now = client.groups.get_group_settings(session_id, team)
    same((now["announce"], now["ephemeralSeconds"]), (True, 86400))
    client.groups.update_group_settings(session_id, team, {"announce": False, "ephemeralSeconds": 0})
    same(client.groups.get_group_settings(session_id, team)["announce"], False)


@check
def nobody_waits_to_be_let_in():
    same(client.groups.get_membership_requests(session_id, team), [])
    same(client.groups.approve_membership_requests(session_id, team)["results"], [])


@check
def an_invite_code_tells_about_its_group():
    code = client.groups.invite_code(session_id, team)["inviteCode"]
    info = client.groups.join_info(session_id, code)
    same((info["id"], info["participantCount"]), (team, len(client.groups.get(session_id, team)["participants"])))


@check
def a_picture_is_set_and_removed():
    same(client.groups.get_picture(session_id, team)["url"], None)
    client.groups.set_picture(session_id, team, {"base64": grey_png(200), "mimetype": "image/png"})
    assert client.groups.get_picture(session_id, team)["url"].startswith("http"), "has a url"
    client.groups.delete_picture(session_id, team)
    same(client.groups.get_picture(session_id, team)["url"], None)


@check
def the_configuration_is_changed():
    same(client.sessions.get_config(session_id)["autoRejectCalls"], False)
    same(client.sessions.update_config(session_id, {"maxReconnectAttempts": 20})["maxReconnectAttempts"], 20)


@check
def the_account_is_shown_as_offline_and_as_online():
    for available in (False, True):
        same(client.sessions.set_online_presence(session_id, {"available": available})["success"], True)
        until(f"available is {available}", lambda: (account_in_world(OWN)["is_available"] == available, None))


@check
def a_proxy_is_set_shown_without_its_credentials_and_removed():
    none = {"enabled": False, "proxyType": None, "proxyHost": None, "hasCredentials": False}
    same(client.sessions.get_proxy(session_id), none)
    shown = client.sessions.update_proxy(session_id, {"proxyUrl": "socks5://user:secret@127.0.0.1:9"})
    same(shown, {"enabled": True, "proxyType": "socks5", "proxyHost": "127.0.0.1:9", "hasCredentials": True})
    until_status(session_id, "initializing")
    same(client.sessions.update_proxy(session_id, {"proxyUrl": None}), none)
    until_status(session_id, "ready")


@check
def a_change_made_on_a_phone_is_seen():
    admin(f"groups/{team}/promote", {"actor": OWN, "participants": [TEAM[0]]})

    def look():
        now = roles(client.groups.get(session_id, team))
        return now[TEAM[0]] == IS_ADMIN, now

    until("the promotion", look)


@check
def a_text_reaches_a_person_and_a_group_with_whom_it_mentions():
    sent = client.messages.send_text(session_id, {"chatId": jid(TEAM[0]), "text": "Hello"})
    assert abs(sent["timestamp"] - time.time()) < WAIT_S, sent
    got = received(TEAM[0], sent["messageId"])
    same((got["chat"], got["kind"], got["text"], got["times"]), (OWN, "text", "Hello", 1))
    body = {"chatId": team, "text": f"Ready, @{TEAM[0]}?", "mentions": [jid(TEAM[0])]}
    got = received(TEAM[1], client.messages.send_text(session_id, body)["messageId"])
    # New groups name people by LID.
    lid = account_in_world(TEAM[0])["lid"].removesuffix("@lid")
    same((got["chat"], got["sender"], got["text"], got["mentions"]), (team, OWN, f"Ready, @{lid}?", [f"{lid}@lid"]))


@check
def places_contacts_and_polls_arrive_as_what_they_are():
    asked = client.messages.send_text(session_id, {"chatId": team, "text": "Where?"})["messageId"]
    calls = [
        (
            "location",
            client.messages.send_location,
            {"latitude": 52.5, "longitude": 13.4, "description": "The gate", "quotedMessageId": asked},
        ),
        ("contact", client.messages.send_contact, {"contactName": "Ben", "contactNumber": BEN}),
        ("poll", client.messages.send_poll, {"name": "When?", "options": ["Monday", "Tuesday"]}),
    ]
    for kind, send, body in calls:
        same(received(TEAM[0], send(session_id, {"chatId": team, **body})["messageId"])["kind"], kind)


@check
def files_arrive_and_can_be_fetched():
    png = grey_png(16)
    voice = {"chatId": team, "base64": base64.b64encode(b"ID3" + bytes(100)).decode(), "mimetype": "audio/mpeg"}
    document = {"base64": base64.b64encode(b"a,b\n").decode(), "mimetype": "text/csv", "filename": "a.csv"}
    calls = [
        ("image", client.messages.send_image, {"base64": png, "mimetype": "image/png", "caption": "Grey"}),
        ("audio", client.messages.send_audio, voice),
        ("document", client.messages.send_document, document),
    ]
    for kind, send, body in calls:
        message_id = send(session_id, {"chatId": team, **body})["messageId"]
        got = received(TEAM[0], message_id)
        content = base64.b64decode(body["base64"])
        same((got["kind"], got["media"]["mimetype"], got["media"]["bytes"]), (kind, body["mimetype"], len(content)))
        fetched = client.messages.media(session_id, team, message_id)
        same((fetched["data"], fetched["contentType"]), (content, body["mimetype"]))
    wrong = {"chatId": team, "base64": png, "mimetype": "image/jpeg"}
    same(refused(OpenWAApiError, 400, client.messages.send_image, session_id, wrong).code, "invalid_file")


@check
def a_batch_is_sent_and_another_one_cancelled():
    def text(chat, words, **more):
        return {"chatId": chat, "type": "text", "content": {"text": words}, **more}

    fast = {"delayBetweenMessages": 1000, "randomizeDelay": False}
    messages = [text(team, "Hello {name}", variables={"name": "all"}), text(jid(NOT_ON_WHATSAPP), "Hello")]
    made = client.messages.send_bulk(session_id, {"messages": messages, "options": fast})
    same((made["status"], made["totalMessages"]), ("pending", 2))

    def look():
        now = client.messages.batch_status(session_id, made["batchId"])
        return now["status"] == "completed", now

    results = until("the end of the batch", look)["results"]
    same([result["status"] for result in results], ["sent", "failed"])
    same(received(TEAM[0], results[0]["messageId"])["text"], "Hello all")
    same(results[1]["error"]["code"], "not_on_whatsapp")
    slow = {"messages": [text(team, "1"), text(team, "2")], "batchId": "slow", "options": {"delayBetweenMessages": 60000}}
    client.messages.send_bulk(session_id, slow)
    same(client.messages.cancel_batch(session_id, "slow")["status"], "cancelled")
    same(refused(OpenWAApiError, 400, client.messages.cancel_batch, session_id, "slow").code, "batch_over")


@check
def the_profile_is_changed():
    changes = [
        client.profile.set_profile_name(session_id, {"name": "Own"}),
        client.profile.set_profile_status(session_id, {"status": "At work"}),
        client.profile.set_profile_picture(session_id, {"base64": grey_png(200), "mimetype": "image/png"}),
        client.profile.delete_profile_picture(session_id),
    ]
    same([change["success"] for change in changes], [True] * len(changes))


@check
def chats_are_read_archived_pinned_muted_and_deleted():
    in_an_hour = int((time.time() + 3600) * 1000)
    changes = [
        client.chats.send_state(session_id, {"chatId": team, "state": "typing"}),
        client.chats.mark_read(session_id, {"chatId": team}),
        client.chats.mark_unread(session_id, {"chatId": team}),
        client.chats.archive(session_id, {"chatId": team, "archive": True}),
        client.chats.pin(session_id, {"chatId": team, "pin": True}),
        client.chats.mute(session_id, {"chatId": team, "muteUntil": in_an_hour}),
        client.chats.mute(session_id, {"chatId": team, "muteUntil": None}),
        client.chats.clear_messages(session_id, team),
        client.chats.delete(session_id, {"chatId": team}),
    ]
    same([change["success"] for change in changes], [True] * len(changes))


@check
def what_is_not_here_says_so():
    calls = [
        lambda: client.channels.list(session_id),
        lambda: client.labels.list(session_id),
        lambda: client.templates.list(session_id),
        lambda: client.status.list(session_id),
    ]
    for call in calls:
        same(refused(OpenWANotImplementedError, 501, call).code, "not_supported")


@check
def the_same_message_is_sent_once():
    body = {"chatId": team, "text": "once"}
    sent = [client.messages.send_text(session_id, body, idempotency_key="once") for _ in range(2)]
    same(sent[0], sent[1])
    same(received(TEAM[0], sent[0]["messageId"])["times"], 1)


@check
def what_others_write_is_delivered_signed_and_is_in_the_list_and_the_history():
    secret = "a secret of the message receiver"
    hook = client.webhooks.create(
        session_id,
        {
            "url": Receiver.url,
            "events": ["message.received"],
            "secret": secret,
            "filters": {"conditions": [{"field": "sender", "operator": "is", "value": jid(TEAM[1])}]},
        },
    )
    Receiver.taken.clear()
    admin(f"accounts/{TEAM[0]}/send", {"to": team, "text": "not for the receiver"})
    message_id = admin(f"accounts/{TEAM[1]}/send", {"to": team, "text": "What time?"})["id"]
    headers, raw = until("the delivery", lambda: (bool(Receiver.taken), (Receiver.taken or [None])[0]))
    assert verify_webhook_signature(raw, headers["X-OpenWA-Signature"], secret), headers
    told = json.loads(raw)
    same((told["event"], told["data"]["id"], told["data"]["body"]), ("message.received", message_id, "What time?"))
    same((told["data"]["from"], told["data"]["author"], told["data"]["isGroup"]), (team, jid(TEAM[1]), True))
    client.webhooks.delete(session_id, hook["id"])
    history = client.messages.history(session_id, team)
    same([one["body"] for one in history[:2]], ["What time?", "not for the receiver"])
    newest = client.messages.list(session_id, {"chatId": team, "limit": 1})
    record = newest["messages"][0]
    same((record["waMessageId"], record["direction"], record["status"]), (message_id, "incoming", "delivered"))
    assert newest["total"] >= 5 and record["sessionId"] == session_id, newest
    same(client.messages.list(session_id, {"from": jid(TEAM[1])})["total"], 1)
    same(client.messages.reactions(session_id, team, message_id), [])


@check
def messages_are_answered_forwarded_and_reacted_to():
    asked = admin(f"accounts/{TEAM[0]}/send", {"to": team, "text": "Who comes?"})["id"]
    until("the message", lambda: (client.messages.reactions(session_id, team, asked) == [], None))
    reply = client.messages.reply(session_id, {"chatId": team, "quotedMessageId": asked, "text": "We do"})
    same(received(TEAM[1], reply["messageId"])["quoted"], asked)
    forward = {"fromChatId": team, "toChatId": jid(TEAM[1]), "messageId": asked}
    got = received(TEAM[1], client.messages.forward(session_id, forward)["messageId"])
    same((got["chat"], got["text"], got["forwarded"]), (OWN, "Who comes?", True))
    same(client.messages.react(session_id, {"chatId": team, "messageId": asked, "emoji": "👍"}), {"success": True})
    told = client.messages.reactions(session_id, team, asked)
    same([(one["emoji"], [by["senderId"] for by in one["senders"]]) for one in told], [("👍", [jid(OWN)])])
    client.messages.react(session_id, {"chatId": team, "messageId": asked, "emoji": ""})
    same(client.messages.reactions(session_id, team, asked), [])


@check
def own_messages_are_edited_and_deleted():
    message_id = client.messages.send_text(session_id, {"chatId": team, "text": "At seven"})["messageId"]
    edit = {"chatId": team, "messageId": message_id, "body": "At eight"}
    same(client.messages.edit_message(session_id, edit)["messageId"], message_id)
    same(client.messages.history(session_id, team)[0]["body"], "At eight")
    deletion = {"chatId": team, "messageId": message_id}
    same(client.messages.delete(session_id, deletion), {"success": True})
    same(client.messages.history(session_id, team)[0]["type"], "revoked")
    same(refused(OpenWAApiError, 400, client.messages.edit_message, session_id, edit).code, "message_deleted")
    unknown = {"chatId": team, "messageId": "3EB000000000000000", "body": "At nine"}
    same(refused(OpenWANotFoundError, 404, client.messages.edit_message, session_id, unknown).code, "message_not_found")
    theirs = admin(f"accounts/{TEAM[0]}/send", {"to": OWN, "text": "mine"})["id"]
    until("the message", lambda: (client.messages.reactions(session_id, jid(TEAM[0]), theirs) == [], None))
    deletion = {"chatId": jid(TEAM[0]), "messageId": theirs}
    same(refused(OpenWAForbiddenError, 403, client.messages.delete, session_id, deletion).code, "not_own_message")


@check
def messages_are_pinned_and_starred_and_deleted_for_the_account_alone():
    message_id = client.messages.send_text(session_id, {"chatId": team, "text": "Read this"})["messageId"]
    of_it = {"chatId": team, "messageId": message_id}
    same(client.messages.pin(session_id, {**of_it, "durationSeconds": 604800}), {"success": True})
    same(client.messages.unpin(session_id, of_it), {"success": True})

    def both():
        got = json.loads(call("GET", f"{ADMIN}/admin/accounts/{TEAM[0]}/messages"))
        return sum(one["kind"] == "pin" for one in got) == 2, got

    until("a pin and its end", both)
    same(client.messages.star(session_id, {**of_it, "star": True}), {"success": True})
    same(client.messages.star(session_id, {**of_it, "star": False}), {"success": True})
    same(client.messages.delete(session_id, {**of_it, "forEveryone": False}), {"success": True})
    bad = {**of_it, "durationSeconds": 60}
    refused(OpenWAApiError, 400, client.messages.pin, session_id, bad)


@check
def a_vote_in_a_poll_is_cast_and_taken_back():
    poll = {"chatId": team, "name": "When?", "options": ["Monday", "Tuesday"]}
    poll_id = client.messages.send_poll(session_id, poll)["messageId"]
    vote = {"chatId": team, "pollMessageId": poll_id}
    same(client.messages.vote_poll(session_id, {**vote, "options": ["Monday"]}), {"success": True})
    same(client.messages.vote_poll(session_id, {**vote, "options": []}), {"success": True})
    admin(f"accounts/{TEAM[0]}/vote", {"chat": team, "poll": poll_id, "options": ["Tuesday"]})
    path = f"{BASE}/api/sessions/{session_id}/messages/{team}/{poll_id}/votes"

    def voted():
        options = json.loads(call("GET", path, headers={"X-API-Key": KEY}))
        return [[one["senderId"] for one in option["voters"]] for option in options] == [[], [jid(TEAM[0])]], options

    until("the vote of a member", voted)
    refused(OpenWAApiError, 400, client.messages.vote_poll, session_id, {**vote, "options": ["Sunday"]})


@check
def a_message_to_nobody_is_refused():
    body = {"chatId": jid(NOT_ON_WHATSAPP), "text": "Hello"}
    same(refused(OpenWANotFoundError, 404, client.messages.send_text, session_id, body).code, "not_on_whatsapp")
    body = {"chatId": "status@broadcast", "text": "Hello"}
    same(refused(OpenWAApiError, 400, client.messages.send_text, session_id, body).code, "invalid_chat_id")


@check
def what_only_admins_may_do_is_forbidden_to_others():
    calls = [
        (client.groups.add_participants, [jid(ANN)]),
        (client.groups.remove_participants, [jid(TEAM[1])]),
        (client.groups.promote_participants, [jid(TEAM[1])]),
    ]
    before = members_in_world(foreign)
    for call, people in calls:
        error = refused(OpenWAForbiddenError, 403, call, session_id, foreign, people)
        same((error.code, "refused by WhatsApp" in error.body["message"]), ("whatsapp_refused", True))
    refused(OpenWAForbiddenError, 403, client.groups.revoke_invite_code, session_id, foreign)
    same(members_in_world(foreign), before)


@check
def a_group_that_is_left_is_not_found():
    same(client.groups.leave(session_id, created), {"success": True, "message": "Left the group"})
    same(list(members_in_world(created)), [ANN])
    error = refused(OpenWANotFoundError, 404, client.groups.get, session_id, created)
    same(error.body["message"], f"Group {created} not found")
    assert created not in [group["id"] for group in client.groups.list(session_id)]


@check
def unknown_groups_are_not_found():
    calls = [
        (client.groups.get,),
        (client.groups.set_subject, "x"),
        (client.groups.set_description, "x"),
        (client.groups.add_participants, [jid(ANN)]),
        (client.groups.remove_participants, [jid(ANN)]),
        (client.groups.promote_participants, [jid(ANN)]),
        (client.groups.demote_participants, [jid(ANN)]),
        (client.groups.invite_code,),
        (client.groups.revoke_invite_code,),
        (client.groups.leave,),
    ]
    for call, *arguments in calls:
        error = refused(OpenWANotFoundError, 404, call, session_id, UNKNOWN_GROUP, *arguments)
        same((call.__name__, error.body["message"]), (call.__name__, f"Group {UNKNOWN_GROUP} not found"))


@check
def bad_ids_and_bodies_are_a_400_that_says_what_is_wrong():
    error = refused(OpenWAApiError, 400, client.groups.get, session_id, "a/b")
    same(error.body["message"], "a/b is not a group id: it is written like 120363021234567890@g.us")
    people = [jid(ANN), "ann", "b@g.us"]
    error = refused(OpenWAApiError, 400, client.groups.add_participants, session_id, team, people)
    assert "ann" in str(error.body["message"]) and "b@g.us" in str(error.body["message"]), error.body
    for call, argument in [
        (client.groups.set_subject, ""),
        (client.groups.set_subject, "x" * 101),
        (client.groups.set_description, "x" * 2049),
        (client.groups.add_participants, []),
        (client.groups.add_participants, [str(15550200000 + n) for n in range(257)]),
    ]:
        error = refused(OpenWAApiError, 400, call, session_id, team, argument)
        assert isinstance(error.body["message"], list) and error.body["message"], error.body
    same(group_in_world(team)["subject"], "Équipe 🚀")


@check
def an_unknown_route_is_not_found():
    error = refused(OpenWANotFoundError, 404, lambda: client.request("GET", "/api/nope"))
    same(error.body["message"], "Cannot GET /api/nope")


@check
def a_viewer_may_read_and_not_write():
    made = client.request("POST", "/api/auth/api-keys", body={"name": "reader", "role": "viewer"})
    viewer = OpenWAClient(BASE, made["apiKey"])
    same((viewer.auth()["role"], viewer.groups.get(session_id, team)["id"]), ("viewer", team))
    error = refused(OpenWAForbiddenError, 403, viewer.groups.set_subject, session_id, team, "x")
    same(error.body["message"], "Insufficient permissions. Required: operator")


# The end.


@check
def a_stopped_session_comes_back_without_a_qr():
    same(client.sessions.stop(session_id)["status"], "disconnected")
    same(client.sessions.stop(session_id)["status"], "disconnected")
    refused(OpenWAApiError, 400, client.groups.list, session_id)
    client.sessions.start(session_id)
    until_status(session_id, "ready")
    same(client.groups.get(session_id, team)["name"], "Équipe 🚀")


@check
def a_webhook_gets_what_happens_signed():
    secret = "a-secret-of-sixteen-or-more"
    hook = client.webhooks.create(session_id, {"url": Receiver.url, "events": ["group.update"], "secret": secret})
    same((hook["sessionId"], hook["events"], hook["active"], hook["retryCount"]), (session_id, ["group.update"], True, 3))
    same(client.webhooks.test(session_id, hook["id"]), {"success": True, "statusCode": 200})
    client.groups.set_subject(session_id, team, "Told")

    def look():
        told = [one for one in Receiver.taken if "Told" in one[1].decode()]
        return bool(told), told[0] if told else len(Receiver.taken)

    headers, raw = until("a delivery", look)
    same(verify_webhook_signature(raw, headers["X-OpenWA-Signature"], secret), True)
    body = json.loads(raw)
    same((body["event"], body["sessionId"], body["data"]["changes"]["name"]), ("group.update", session_id, "Told"))
    same(headers["X-OpenWA-Delivery-Id"], body["deliveryId"])
    changed = client.webhooks.update(session_id, hook["id"], {"active": False, "secret": ""})
    same(changed["active"], False)
    same([one["id"] for one in client.webhooks.list(session_id)], [hook["id"]])
    same([one["id"] for one in client.webhooks.list_all({"limit": 5})], [hook["id"]])
    same(client.webhooks.get(session_id, hook["id"])["url"], Receiver.url)
    same(client.webhooks.delivery_failures({"sessionId": session_id}), [])
    same(client.webhooks.redrive_delivery_failures({"webhookId": hook["id"]})["redriven"], 0)
    same(client.webhooks.delete(session_id, hook["id"]), None)
    refused(OpenWANotFoundError, 404, client.webhooks.get, session_id, hook["id"])
    bad = {"url": "http://169.254.169.254/", "events": ["group.update"]}
    refused(OpenWAApiError, 400, client.webhooks.create, session_id, bad)


@check
def a_killed_session_keeps_its_account():
    now = client.sessions.force_kill(session_id)
    same((now["status"], now["phone"], now["engineLoaded"]), ("disconnected", OWN, False))
    client.sessions.start(session_id)
    until_status(session_id, "ready")


@check
def a_logged_out_session_knows_no_account():
    now = client.sessions.logout(session_id)
    same((now["status"], now["phone"], now["engineLoaded"]), ("disconnected", None, False))
    same([len(one["devices"]) for one in world()["accounts"] if one["phone"] == OWN], [0])
    refused(OpenWAApiError, 400, client.sessions.logout, session_id)
    client.sessions.start(session_id)
    until_status(session_id, "qr_ready")


@check
def a_deleted_session_is_gone_and_its_device_unlinked():
    same(client.sessions.delete("another"), None)
    same([len(one["devices"]) for one in world()["accounts"] if one["phone"] == OTHER], [0])
    refused(OpenWANotFoundError, 404, client.sessions.get, "another")
    same(client.sessions.delete(session_id), None)
    same(client.sessions.list(), [])
    refused(OpenWANotFoundError, 404, client.sessions.delete, session_id)


def populate():
    """The simulated WhatsApp that the checks expect."""
    global team, foreign
    admin("accounts", {"phone": OWN, "name": "Alice"})
    for phone in (*TEAM, ANN, BEN, OTHER):
        admin("accounts", {"phone": phone})
    admin("accounts", {"phone": INVITE_ONLY, "addable": "invite_only"})
    mine = {"subject": "Project Team", "owner": OWN, "participants": TEAM, "description": "Where we talk"}
    team = admin("groups", mine)["id"]
    theirs = {"subject": "Neighbourhood", "owner": TEAM[0], "participants": [OWN, TEAM[1]], "addressing": "pn"}
    foreign = admin("groups", theirs)["id"]


def main():
    receive()
    populate()
    failed = 0
    for function in checks:
        name = function.__name__.replace("_", " ")
        try:
            function()
            print(f"ok      {name}")
        except Exception:
            failed += 1
            print(f"FAILED  {name}\n{traceback.format_exc()}")
    print(f"{len(checks) - failed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
