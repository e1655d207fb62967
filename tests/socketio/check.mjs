// Drives the daemon's sockets with the npm package `socket.io-client`, which OpenWA's clients use.
//
// Started by `tests/socketio/run`, which says where everything is. Starts the simulator and the daemon itself, as one check restarts
// the daemon. Each check is one sentence; most run once for each way of transport. They build on each other and run in this order;
// one that fails does not keep the others from running.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import path from "node:path";

const { CHECK_ROOKERY: ROOKERY, CHECK_WORK: WORK, CHECK_MODULES: MODULES } = process.env;
const { io } = createRequire(path.join(MODULES, "socket.io-client", "package.json"))("socket.io-client");

const KEY = "socketio-check-0123456789-abcdefghijk";
const OWN = "15550100001";
const TEAM = ["15550100002", "15550100003"];
const GROUPS = 120;
// Everything here takes well under a second; the machine may be busy with other things.
const WAIT_MS = 20_000;
const TRANSPORTS = { websocket: ["websocket"], polling: ["polling"], upgraded: ["polling", "websocket"] };

const children = [];
let base, adminUrl, whatsapp, daemon, sessionId;
const groups = [];
const checks = [];
const open = new Set();

/** Starts `rookery` and resolves with what stands behind each of the prefixes in its output. */
async function start(args, env, ...prefixes) {
    const child = spawn(ROOKERY, args, { env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] });
    child.output = "";
    child.ended = new Promise((resolve) => child.once("exit", resolve));
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => (child.output += data));
    children.push(child);
    const values = await until(`the start of ${args[0]}`, () => {
        assert.equal(child.exitCode, null, child.output);
        const found = prefixes.map((prefix) => child.output.match(new RegExp(`${prefix}(\\S+)`))?.[1]);
        return found.every(Boolean) && found;
    });
    return [child, ...values];
}

async function until(what, look) {
    const deadline = Date.now() + WAIT_MS;
    for (;;) {
        const found = await look();
        if (found) return found;
        assert.ok(Date.now() < deadline, `not in time: ${what}`);
        await new Promise((resolve) => setTimeout(resolve, 20));
    }
}

function within(what, promise) {
    let timer;
    const late = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error(`not in time: ${what}`)), WAIT_MS)));
    return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

async function call(method, url, body, headers = {}) {
    const text = typeof body === "string" || body === undefined ? body : JSON.stringify(body);
    const answer = await fetch(url, { method, body: text, headers: { "Content-Type": "application/json", ...headers } });
    const received = await answer.text();
    assert.ok(answer.ok, `${method} ${url}: ${answer.status} ${received}`);
    return received.startsWith("{") || received.startsWith("[") ? JSON.parse(received) : received;
}

const api = (method, route, body) => call(method, `${base}/api${route}`, body, { "X-API-Key": KEY });
const admin = (route, body) => call("POST", `${adminUrl}/admin/${route}`, body);
const makeKey = (terms) => api("POST", "/auth/api-keys", { name: "check", role: "viewer", ...terms });

async function startDaemon() {
    const env = {
        ROOKERY_BOOTSTRAP_KEY: KEY,
        ROOKERY_WHATSAPP_URL: whatsapp,
        ROOKERY_LISTEN: base ? new URL(base).host : "127.0.0.1:0",
        ROOKERY_DATA_DIR: path.join(WORK, "data"),
        ROOKERY_LOG: "info",
    };
    for (const limit of ["CREATE", "ADD", "WRITE", "QUERY"]) env[`ROOKERY_LIMIT_${limit}`] = "off";
    const [child, address] = await start(["serve"], env, "serving listen=");
    [daemon, base] = [child, `http://${address}`];
}

async function stop(child) {
    child.kill("SIGTERM");
    await within("the end of a process", child.ended);
}

const isReady = async () => (await api("GET", `/sessions/${sessionId}`)).status === "ready";

/** The world: one linked session with many groups, in which others do something. */
async function prepare() {
    let simulator;
    [simulator, whatsapp, adminUrl] = await start(["simulator", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"], {}, "WhatsApp: *", "control: *");
    await until("the simulator", () => simulator.output.includes("ready"));
    for (const phone of [OWN, ...TEAM]) await admin("accounts", { phone });
    for (let number = 0; number < GROUPS; number++) {
        const group = await admin("groups", { owner: OWN, subject: `Group ${number}`, participants: TEAM, admins: [TEAM[0]] });
        groups.push(group.id);
    }
    await startDaemon();
    sessionId = (await api("POST", "/sessions", { name: "check" })).id;
    await api("POST", `/sessions/${sessionId}/start`, {});
    const qr = await until("a QR", () => api("GET", `/sessions/${sessionId}/qr?format=text`).catch(() => false));
    await admin(`mock-phone/scan-qr?phone=${OWN}`, qr);
    await until("the session", isReady);
    const count = async () => (await api("GET", `/sessions/${sessionId}/groups?limit=1000`)).length === GROUPS;
    await until("the groups", () => count().catch(() => false));
}

/** A client, with the messages that it got. */
function client(transports, key, options = {}) {
    const socket = io(`${base}/events`, { auth: key === undefined ? {} : { apiKey: key }, transports, forceNew: true, ...options });
    socket.got = [];
    socket.on("message", (message) => socket.got.push(message));
    open.add(socket);
    return socket;
}

async function connected(transports, key = KEY, options) {
    const socket = client(transports, key, options);
    await within("the connection", new Promise((resolve, reject) => {
        socket.once("connect", resolve);
        socket.once("connect_error", reject);
    }));
    return socket;
}

const ask = (socket, message) => socket.timeout(WAIT_MS).emitWithAck("message", message);
const subscribe = (socket, events = ["*"], session = sessionId) => ask(socket, { type: "subscribe", sessionId: session, events });
const disconnected = (socket) => within("the end", new Promise((resolve) => socket.once("disconnect", resolve)));

function check(name, run) {
    checks.push([name, run]);
}

/** The same check for each way of transport. */
function checkEach(name, run) {
    for (const [kind, transports] of Object.entries(TRANSPORTS)) check(`${name} (${kind})`, () => run(transports));
}

const rename = (group, subject) => admin(`groups/${group}/subject`, { actor: TEAM[0], subject });
const names = (socket) => socket.got.map((message) => message.payload.data.changes?.name).filter(Boolean);

checkEach("replies come in the acknowledgement, as the contract has them", async (transports) => {
    const socket = await connected(transports);
    const replies = [
        await ask(socket, { type: "ping", requestId: "p" }),
        await ask(socket, { type: "subscribe", sessionId, events: ["group.join", "nonsense"], requestId: "s" }),
        await ask(socket, { type: "unsubscribe", sessionId, requestId: "u" }),
        await ask(socket, { type: "subscribe", sessionId: "nobody", events: ["*"] }),
        await ask(socket, { type: "subscribe", sessionId, events: ["nonsense"] }),
        await ask(socket, { type: "nonsense" }),
    ];
    for (const reply of replies) assert.match(reply.timestamp, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    const told = replies.map(({ timestamp, message, ...reply }) => reply);
    assert.deepEqual(told, [
        { type: "pong", requestId: "p" },
        { type: "subscribed", sessionId, events: ["group.join"], requestId: "s" },
        { type: "unsubscribed", sessionId, requestId: "u" },
        { type: "error", code: "INVALID_SESSION" },
        { type: "error", code: "INVALID_EVENTS" },
        { type: "error", code: "INVALID_MESSAGE" },
    ]);
    assert.deepEqual(socket.got, []);
});

checkEach("every change comes once and in order, also while much happens", async (transports) => {
    const socket = await connected(transports);
    await subscribe(socket, ["*"], "*");
    await subscribe(socket);
    const given = groups.map((_, number) => `${transports} ${number}`);
    for (const [number, group] of groups.entries()) await rename(group, given[number]);
    await until("the names", () => names(socket).length >= GROUPS);
    assert.deepEqual(names(socket).toSorted(), given.toSorted());
    const first = socket.got[0];
    assert.deepEqual(Object.keys(first), ["type", "payload", "timestamp", "id", "cursor"]);
    assert.deepEqual([first.type, Object.keys(first.payload)], ["event", ["event", "sessionId", "data"]]);
    const numbers = socket.got.map((message) => message.payload.data.sequence);
    assert.deepEqual(numbers, numbers.map((_, at) => numbers[0] + at));
    const log = await api("GET", `/sessions/${sessionId}/events?after=${first.cursor}&limit=1`);
    assert.deepEqual([log.events[0].data, log.events[0].id], [socket.got[1].payload.data, socket.got[1].id]);
});

checkEach("a bad key connects, is told so and is disconnected", async (transports) => {
    for (const [key, told] of [["wrong", "Authentication failed"], [undefined, "API key required"]]) {
        const socket = client(transports, key);
        assert.equal(await disconnected(socket), "io server disconnect");
        const [{ timestamp, ...error }] = socket.got;
        assert.deepEqual(error, { type: "error", code: "UNAUTHORIZED", message: told });
    }
});

checkEach("the key may come in a header", async (transports) => {
    const socket = await connected(transports, undefined, { extraHeaders: { "X-API-Key": KEY } });
    assert.equal((await subscribe(socket)).type, "subscribed");
});

checkEach("a key that is limited sees its own, and a revoked one is sent away within a second", async (transports) => {
    const made = await makeKey({ allowedSessions: [sessionId], allowedGroups: [groups[0]] });
    const socket = await connected(transports, made.apiKey);
    assert.equal((await subscribe(socket, ["*"], "*")).code, "FORBIDDEN_SESSION");
    assert.equal((await subscribe(socket)).type, "subscribed");
    for (const group of groups.slice(0, 5).reverse()) await rename(group, `${transports} limited ${group}`);
    await until("the name", () => names(socket).length > 0);
    assert.deepEqual(socket.got.map((message) => message.payload.data.groupId), [groups[0]]);
    const gone = disconnected(socket);
    await api("POST", `/auth/api-keys/${made.id}/revoke`, {});
    const begun = Date.now();
    assert.equal(await gone, "io server disconnect");
    assert.ok(Date.now() - begun < 1_000, `${Date.now() - begun} ms`);
    assert.deepEqual([socket.got.at(-1).type, socket.got.at(-1).code], ["error", "UNAUTHORIZED"]);
});

checkEach("more clients or messages than a key may have are refused, and others are not", async (transports) => {
    const { apiKey } = await makeKey({});
    const all = await Promise.all(Array.from({ length: 16 }, () => connected(transports, apiKey)));
    const more = client(transports, apiKey, { reconnectionDelay: 50 });
    assert.equal(await disconnected(more), "transport close");
    assert.equal(more.got[0].code, "RATE_LIMITED");
    const pings = Array.from({ length: 300 }, (_, number) => ask(all[number % 16], { type: "ping", requestId: number }));
    const replies = await Promise.all(pings);
    assert.deepEqual(replies.map((reply) => reply.requestId), replies.map((_, number) => number));
    assert.deepEqual(new Set(replies.map((reply) => reply.code ?? reply.type)), new Set(["pong", "RATE_LIMITED"]));
    const other = await connected(transports);
    assert.equal((await ask(other, { type: "ping" })).type, "pong");
    // The one that was too many comes again by itself, once there is room.
    all[0].disconnect();
    const isIn = async () => more.connected && (await ask(more, { type: "ping" }).catch(() => ({}))).type === "pong";
    await until("the client that was too many", isIn);
});

check("a change of the transport in the middle of events loses none", async () => {
    const socket = client(TRANSPORTS.upgraded, KEY, { autoConnect: false });
    const changed = new Promise((resolve) => socket.io.on("open", () => socket.io.engine.on("upgrade", resolve)));
    const joined = new Promise((resolve) => socket.once("connect", resolve));
    socket.connect();
    await within("the connection", joined);
    const subscribed = subscribe(socket);
    const renamed = Promise.all(groups.map((group, number) => rename(group, `changing ${number}`)));
    await within("the change", changed);
    await Promise.all([subscribed, renamed]);
    const log = await until("the changes", async () => {
        const { events } = await api("GET", `/sessions/${sessionId}/events?limit=1000`);
        const told = events.filter((event) => event.data.changes?.name?.startsWith("changing"));
        return told.length === GROUPS && events;
    });
    // The first ones may have been before the subscription.
    await until("the last one", () => socket.got.at(-1)?.payload.data.sequence === log.at(-1).sequence);
    const numbers = socket.got.map((message) => message.payload.data.sequence);
    assert.deepEqual(numbers, numbers.map((_, at) => numbers[0] + at));
});

check("another namespace is refused in words", async () => {
    const socket = io(base, { auth: { apiKey: KEY }, transports: ["websocket"], forceNew: true });
    open.add(socket);
    const error = await within("the refusal", new Promise((resolve) => socket.once("connect_error", resolve)));
    assert.equal(error.message, "Invalid namespace");
});

check("clients come again by themselves after a restart, and get what happens from then on", async () => {
    const sockets = await Promise.all(Object.values(TRANSPORTS).map((transports) => connected(transports, KEY, { reconnectionDelay: 50 })));
    for (const socket of sockets) socket.on("connect", () => (socket.again = subscribe(socket)));
    const begun = Date.now();
    await stop(daemon);
    assert.ok(Date.now() - begun < 8_000, "nobody waits for clients");
    await startDaemon();
    await until("the clients", () => sockets.every((socket) => socket.again));
    for (const socket of sockets) assert.equal((await socket.again).type, "subscribed");
    await until("the session", isReady);
    await rename(groups[0], "after the restart");
    await until("the name", () => sockets.every((socket) => names(socket).includes("after the restart")));
});

let passed = 0;
try {
    await prepare();
    for (const [name, run] of checks) {
        try {
            await run();
            passed += 1;
            console.log(`ok      ${name}`);
        } catch (error) {
            console.log(`FAILED  ${name}\n${error.stack}`);
        }
        for (const socket of open) socket.disconnect();
        open.clear();
        // The places of a key are free again when the transports have ended.
        await until("no client", async () => {
            const socket = await connected(["websocket"]).catch(() => undefined);
            const told = socket && (await ask(socket, { type: "ping" }).catch(() => undefined));
            socket?.disconnect();
            return told?.type === "pong";
        });
    }
} finally {
    if (passed < checks.length) for (const child of children) console.log(child.output);
    for (const child of children.filter((child) => child.exitCode === null)) await stop(child);
}
console.log(`${passed} passed, ${checks.length - passed} failed`);
process.exit(passed === checks.length ? 0 : 1);
