#!/usr/bin/env python3
"""Checks the licence and the name of every package that ends up in the daemon. Reads `cargo metadata`, changes nothing."""
import json
import re
import subprocess
import sys

# Licences that may be combined with AGPL-3.0-only.
ALLOWED = {
    "0BSD", "AGPL-3.0-only", "Apache-2.0", "BSD-1-Clause", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0",
    "CDLA-Permissive-2.0", "ISC", "MIT", "MIT-0", "MPL-2.0", "Unicode-3.0", "Unlicense", "Zlib",
    "Apache-2.0 WITH LLVM-exception",
}
# One TLS provider (ring), one HTTP client, and no log bridge that would let the engine's phone numbers out.
BANNED = {"aws-lc-rs", "aws-lc-sys", "openssl", "openssl-sys", "native-tls", "ureq", "tracing-log", "env_logger"}


def allowed(expression):
    """Evaluates an SPDX expression; `/` is the old way to write OR. AND binds closer than OR, as in SPDX."""
    tokens = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))

    def alternatives():
        value = conjunction()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            value = conjunction() or value
        return value

    def conjunction():
        value = licence()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            value = licence() and value
        return value

    def licence():
        token = tokens.pop(0)
        if token == "(":
            value = alternatives()
            tokens.pop(0)
            return value
        if tokens[:1] == ["WITH"]:
            token = f"{token} WITH {tokens[1]}"
            del tokens[:2]
        return token in ALLOWED

    return alternatives()


def main():
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", "x86_64-unknown-linux-gnu"]
    metadata = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    daemon = next(package["id"] for package in metadata["packages"] if package["name"] == "rookery")
    reached, waiting = set(), [daemon]
    while waiting:
        current = waiting.pop()
        if current in reached:
            continue
        reached.add(current)
        for dependency in nodes[current]["deps"]:
            if any(kind["kind"] in (None, "build") for kind in dependency["dep_kinds"]):
                waiting.append(dependency["pkg"])
    wrong = []
    for package in (packages[identifier] for identifier in reached):
        name = f"{package['name']} {package['version']}"
        if package["name"] in BANNED:
            wrong.append(f"{name} is banned")
        if not package["license"] or not allowed(package["license"]):
            wrong.append(f"{name} has the licence {package['license']!r}")
    for line in sorted(wrong):
        print(line, file=sys.stderr)
    print(f"licences: {len(reached)} packages looked at, {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
