"""The history of a violation: what was asked, what WhatsApp was, and what went wrong, in the order of time."""
import time

from world import describe

# Seconds before and after the call: earlier and later events had no part in the violation.
BEFORE_S, AFTER_S = 15, 3


def of(violation, rounds, seed):
    call = violation.call
    # A violation that was found after the storm may have any part of the storm as its cause.
    of_a_write = any(call is write.call for write in rounds.writes)
    begin = call.begin - BEFORE_S if of_a_write else rounds.began
    end = (call.end if call else time.time()) + AFTER_S
    events = [(at, text) for at, text in rounds.log_before + rounds.log if begin <= at <= end]
    gid = violation.gid
    for write in rounds.writes_before + rounds.writes:
        other = write.call
        if other.end >= begin and other.begin <= end and (gid is None or write.gid == gid or gid in other.path):
            events.append((other.begin, f"asked  #{other.number}"))
            events.append((other.end, f"answer {other}"))
            if write.read:
                events.append((write.read.end, f"read   #{write.read.number}: {write.read.status}"))
    if gid:
        for at, actor, before, after in rounds.world.of(gid).changes(begin, end):
            events.append((at, f"WORLD  by {actor}: {describe(before, after)}"))
    lines = [f"  {at - begin:8.3f}  {text}" for at, text in sorted(events, key=lambda event: event[0])]
    head = f"VIOLATION (seed {seed}, round {rounds.number}, group {gid}): {violation}"
    return "\n".join([head, *lines, "  --"])
