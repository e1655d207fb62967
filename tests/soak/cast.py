"""Who is there: accounts, sessions, keys and the groups to begin with."""

SESSIONS = {"alice": "15550100001", "bob": "15550100002", "carol": "15550100003"}
# Each key may use these sessions.
TENANTS = {"north": ["alice", "bob"], "south": ["carol"]}
# Erin and Frank change groups from elsewhere. They are admins of all groups of the start.
ERIN, FRANK = "15550100011", "15550100012"
PEOPLE = [f"155501000{number}" for number in range(20, 32)]
INVITE_ONLY, UNADDABLE, HIDDEN, NOWHERE = "15550100040", "15550100041", "15550100042", "15550100099"
# The LID of `HIDDEN`, whose number is shown nowhere: calls name this account by its LID.
HIDDEN_LID = "199000000000042"
ELSEWHERE = [ERIN, FRANK]
GROUPS_MAX = 24


def tenant_of(session):
    return next(tenant for tenant, sessions in TENANTS.items() if session in sessions)


def populate(admin):
    for phone in [*SESSIONS.values(), ERIN, FRANK, *PEOPLE]:
        admin.must("POST", "/admin/accounts", {"phone": phone})
    admin.must("POST", "/admin/accounts", {"phone": INVITE_ONLY, "addable": "invite_only"})
    admin.must("POST", "/admin/accounts", {"phone": UNADDABLE, "addable": "nobody"})
    admin.must("POST", "/admin/accounts", {"phone": HIDDEN, "lid": HIDDEN_LID, "number_hidden": True})
    owners = [*SESSIONS.values(), ERIN]
    for index in range(6):
        group = {
            "subject": f"Team {index}", "owner": owners[index % len(owners)], "addressing": "lid" if index % 2 else "pn",
            "admins": [ERIN, FRANK, *SESSIONS.values()], "participants": PEOPLE[index:index + 4],
        }
        admin.must("POST", "/admin/groups", group)
