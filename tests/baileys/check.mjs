// Drives the WhatsApp simulator with Baileys, a client that others wrote, so that the simulator is not only tested with the client
// that it was made for; and lets the daemon write to Baileys.
//
// Started by `tests/baileys/run`, which says where everything is. Each check is one sentence. They build on each other and run in
// this order; one that fails does not keep the others from running. Alice has one client and later a second one, Bob has one
// client, Carol and Dave have only phones, and Erin has a session of the daemon.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import os from "node:os";
import path from "node:path";

import { Client, Memory, WAIT_MS, baileys, textOf, trust } from "./client.mjs";

const { CHECK_ROOKERY: ROOKERY, CHECK_MODULES: MODULES } = process.env;
const sharp = createRequire(path.join(MODULES, "sharp", "package.json"))("sharp");

const [ALICE, BOB, CAROL, DAVE, ERIN] = ["15550100001", "15550100002", "15550100003", "15550100004", "15550100005"];
const PEOPLE = { [ALICE]: "Alice", [BOB]: "Bob", [CAROL]: "Carol", [DAVE]: "Dave", [ERIN]: "Erin" };
const API_KEY = "baileys-check-0123456789-abcdefghijkl";
const ADDRESSINGS = ["lid", "pn"];
const { DELIVERY_ACK, READ, ERROR } = baileys.proto.WebMessageInfo.Status;
const { REVOKE } = baileys.proto.WebMessageInfo.StubType;
const NO_KEY = "No session found to decrypt message";

/** The only errors that Baileys may log. */
const EXPECTED_ERRORS = [
    // Linking ends with the stream error 515, after which a client has to connect again.
    ({ message, data }) => message === "stream errored out" && data.fullErrorNode.attrs.code === "515",
    // A client that is closed may have been about to acknowledge something.
    ({ isEnding, data }) => isEnding && data.ackErr?.output.statusCode === baileys.DisconnectReason.connectionClosed,
    // Some checks take away the key of a message. Baileys logs the failure twice, once without the message's id.
    ({ message, data }) => message === "failed to decrypt message" && undecryptable.includes(data.key.id),
    ({ client, message, data }) => client === "bob" && message.startsWith("transaction failed") && data.error.message === NO_KEY,
];

const checks = [];
const clients = [];
const groups = {};
/** The ids of the messages that a check made undecryptable, and of those that it had refused. */
const undecryptable = [];
const refused = [];
let simulator, url, adminUrl, daemon, dataDirectory, apiUrl, alice, second, bob;
/** Erin's account, in the form of a client's. */
let erin;

async function until(what, look) {
    const deadline = Date.now() + WAIT_MS;
    for (;;) {
        const found = await look();
        if (found) return found;
        assert.ok(Date.now() < deadline, `not in time: ${what}`);
        await new Promise((resolve) => setTimeout(resolve, 20));
    }
}

async function admin(method, route, body) {
    const text = typeof body === "string" || body === undefined ? body : JSON.stringify(body);
    const headers = { "Content-Type": "application/json" };
    const answer = await fetch(`${adminUrl}/admin/${route}`, { method, body: text, headers });
    const received = await answer.text();
    assert.ok(answer.ok, `${method} ${route}: ${answer.status} ${received}`);
    return JSON.parse(received);
}

/** A request to the daemon's API about Erin's session. */
async function api(method, route, body) {
    const headers = { "Content-Type": "application/json", "X-API-Key": API_KEY };
    const answer = await fetch(`${apiUrl}/api/sessions${route}`, { method, body: body && JSON.stringify(body), headers });
    return { status: answer.status, text: await answer.text() };
}

async function daemonPosts(route, body) {
    const { status, text } = await api("POST", `/erin/messages/${route}`, body);
    assert.ok(status === 200 || status === 201, text);
    return JSON.parse(text);
}

/** The daemon sends something; the result is the message's id. */
async function daemonSends(kind, to, content) {
    return (await daemonPosts(`send-${kind}`, { chatId: to, ...content })).messageId;
}

const change = (group, kind, fields) => admin("POST", `groups/${group}/${kind}`, { actor: ALICE, ...fields });
const pn = (phone) => `${phone}@s.whatsapp.net`;
const bare = (jid) => baileys.jidNormalizedUser(jid);
/** How a group names an account. */
const member = (client, addressing) => bare(addressing === "lid" ? client.me.lid : client.me.id);

/** The message that a phone has got. */
function onPhone(phone, id) {
    const find = async () => (await admin("GET", `accounts/${phone}/messages`)).find((message) => message.id === id);
    return until(`message ${id} on the phone of ${PEOPLE[phone]}`, find);
}

/** What the simulator knows of a client. */
async function device({ me }) {
    const [, phone, id] = me.id.match(/^(\d+):(\d+)@/);
    const account = (await admin("GET", "world")).accounts.find((account) => account.phone === phone);
    return account.devices.find((device) => device.id === Number(id));
}

/** The client ends, and the simulator has noticed it: what comes from now on has to wait. */
async function disconnect(client) {
    await client.close();
    await until(`the end of ${client.name}'s connection`, async () => !(await device(client)).connected);
}

function client(name, phone, memory) {
    const made = new Client({ name, url, memory, scan: (qr) => admin("POST", `mock-phone/scan-qr?phone=${phone}`, qr) });
    clients.push(made);
    return made.start();
}

/** A client as a restarted process makes it: of the former one, only what it saved is left. */
function again({ name, memory }) {
    return client(name, undefined, new Memory(memory.save()));
}

/** The client loses the key with which another one encrypts for a group. */
function loseSenderKey({ memory }, author, addressing) {
    const prefix = `sender-key/${groups[addressing]}::${member(author, addressing).split("@")[0]}`;
    const lost = memory.names("sender-key").filter((name) => name.startsWith(prefix) && memory.values.delete(name));
    assert.ok(lost.length > 0);
}

/** Starts the executable, and waits until it has printed `sign`. */
async function start(given, sign, variables = {}) {
    const child = spawn(ROOKERY, given, { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, ...variables } });
    child.output = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => (child.output += data));
    await until(`the start of ${given[0]}`, () => {
        assert.equal(child.exitCode, null, child.output);
        return sign.test(child.output);
    });
    return child;
}

async function startDaemon() {
    dataDirectory = await mkdtemp(path.join(os.tmpdir(), "rookery-baileys-"));
    const variables = {
        ROOKERY_BOOTSTRAP_KEY: API_KEY,
        ROOKERY_WHATSAPP_URL: url,
        ROOKERY_LISTEN: "127.0.0.1:0",
        ROOKERY_DATA_DIR: dataDirectory,
        ROOKERY_LIMIT_MESSAGE: "off",
        NO_COLOR: "1",
    };
    daemon = await start(["serve"], /serving listen=/, variables);
    apiUrl = `http://${daemon.output.match(/serving listen=(\S+)/)[1]}`;
}

async function prepare() {
    simulator = await start(["simulator", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"], /^ready$/m);
    const told = (prefix) => simulator.output.match(new RegExp(`${prefix}: *(\\S+)`))[1];
    [url, adminUrl] = [told("WhatsApp"), told("control")];
    trust(told("root key"));
    for (const [phone, name] of Object.entries(PEOPLE)) await admin("POST", "accounts", { phone, name });
    for (const addressing of ADDRESSINGS) {
        const group = { subject: `Group ${addressing}`, owner: ALICE, participants: [BOB, CAROL], addressing };
        groups[addressing] = (await admin("POST", "groups", group)).id;
    }
    await admin("POST", `accounts/${ALICE}/contacts`, { contact: CAROL, name: "Carol from work" });
}

function check(name, run) {
    checks.push([name, run]);
}

/** The same check for both kinds of groups. */
function checkEach(name, run) {
    for (const addressing of ADDRESSINGS) check(`${name} (${addressing})`, () => run(groups[addressing], addressing));
}

check("a client that is linked gets the history, its name and the app state from the phone", async () => {
    alice = await client("alice", ALICE).open();
    assert.equal(alice.me.name, "Alice");
    const history = await alice.event("messaging-history.set", (history) => history);
    assert.deepEqual(history.messages, []);
    const isCarol = ({ id, name }) => id === pn(CAROL) && name === "Carol from work";
    await alice.event("contacts.upsert", (contacts) => contacts.some(isCarol));
    bob = await client("bob", BOB).open();
});

check("a client logs in again with what it has saved", async () => {
    await disconnect(alice);
    const { id } = alice.me;
    alice = await again(alice).open();
    assert.equal(alice.me.id, id);
    assert.ok(!alice.events.some(({ data }) => data.qr));
    assert.ok((await device(alice)).connected);
});

checkEach("a text to a group reaches clients and phones, and the receipts come back", async (group, addressing) => {
    const { key } = await alice.send(group, { text: `first ${addressing}` });
    const got = await bob.text(`first ${addressing}`);
    assert.deepEqual([got.key.remoteJid, bare(got.key.participant), got.key.id], [group, member(alice, addressing), key.id]);
    assert.deepEqual([got.pushName, got.key.fromMe], ["Alice", false]);
    for (const phone of [BOB, CAROL]) {
        const { chat, sender, text, times } = await onPhone(phone, key.id);
        assert.deepEqual([chat, sender, text, times], [group, ALICE, `first ${addressing}`, 1]);
    }
    const bobs = member(bob, addressing);
    await alice.receipt(key.id, ({ userJid, receiptTimestamp }) => userJid === bobs && receiptTimestamp);
    await alice.receipt(key.id, ({ userJid, receiptTimestamp }) => userJid !== bobs && receiptTimestamp);
    const device = addressing === "lid" ? bob.me.lid : bob.me.id;
    const isOfClient = ({ tag, attrs }) => tag === "receipt" && attrs.id === key.id && attrs.participant === device;
    await alice.until("the receipt of Bob's client", () => alice.received.some(isOfClient));
    await bob.socket.readMessages([got.key]);
    await alice.receipt(key.id, ({ userJid, readTimestamp }) => userJid === bobs && readTimestamp);
});

checkEach("the second text to a group comes without new keys", async (group, addressing) => {
    const { key } = await alice.send(group, { text: `second ${addressing}` });
    assert.match(alice.stanza("message", key.id), /skmsg/);
    assert.doesNotMatch(alice.stanza("message", key.id), /<participants/);
    await bob.text(`second ${addressing}`);
    assert.equal((await onPhone(CAROL, key.id)).text, `second ${addressing}`);
});

checkEach("a new member gets the next message, and somebody who was removed gets nothing more", async (group, addressing) => {
    await change(group, "add", { participants: [DAVE] });
    const first = await alice.send(group, { text: `with Dave ${addressing}` });
    assert.equal((await onPhone(DAVE, first.key.id)).text, `with Dave ${addressing}`);
    await change(group, "remove", { participants: [DAVE, BOB] });
    const { key } = await alice.send(group, { text: `without Bob ${addressing}` });
    await onPhone(CAROL, key.id);
    await change(group, "add", { participants: [BOB] });
    await alice.send(group, { text: `with Bob ${addressing}` });
    await bob.text(`with Bob ${addressing}`);
    assert.deepEqual(bob.all((message) => message.key.id === key.id), []);
    for (const phone of [DAVE, BOB]) {
        const got = await admin("GET", `accounts/${phone}/messages`);
        assert.ok(!got.some((message) => message.id === key.id));
    }
});

check("two people write to each other, by number and by LID", async () => {
    const { key } = await alice.send(pn(BOB), { text: "hello Bob" });
    const got = await bob.text("hello Bob");
    assert.deepEqual([got.key.remoteJid, got.key.remoteJidAlt, got.key.fromMe], [pn(ALICE), bare(alice.me.lid), false]);
    assert.equal((await onPhone(BOB, key.id)).chat, ALICE);
    await alice.update(key.id, ({ status }) => status === DELIVERY_ACK);
    await bob.socket.readMessages([got.key]);
    await alice.update(key.id, ({ status }) => status === READ);
    const answer = await bob.send(bare(alice.me.lid), { text: "hello Alice" });
    const answered = await alice.text("hello Alice");
    assert.deepEqual([answered.key.remoteJid, answered.key.remoteJidAlt], [bare(bob.me.lid), pn(BOB)]);
    assert.equal((await onPhone(ALICE, answer.key.id)).chat, BOB);
});

check("a second client learns the past from the phone, which has a copy of everything", async () => {
    second = await client("second", ALICE).open();
    const { messages } = await second.event("messaging-history.set", (history) => history);
    const known = messages.map((message) => [message.key.remoteJid, message.key.fromMe, textOf(message)]);
    const alone = [[pn(BOB), true, "hello Bob"], [pn(BOB), false, "hello Alice"]];
    const together = ADDRESSINGS.map((addressing) => [groups[addressing], true, `first ${addressing}`]);
    for (const one of [...alone, ...together]) assert.ok(known.some((other) => `${other}` === `${one}`), `${one} of ${known}`);
    assert.equal(second.me.name, "Alice");
});

check("what one client sends comes to the other one as a copy, in the right chat", async () => {
    for (const [from, to] of [[alice, second], [second, alice]]) {
        for (const [chat, alt] of [[pn(BOB), bare(bob.me.lid)], [bare(bob.me.lid), pn(BOB)], [groups.lid], [groups.pn]]) {
            const text = `${from.name} to ${chat}`;
            await from.send(chat, { text });
            const copy = await to.text(text);
            assert.deepEqual([copy.key.remoteJid, copy.key.fromMe, copy.key.remoteJidAlt], [chat, true, alt]);
            await bob.text(text);
        }
    }
});

check("what one client reads is read at the other one", async () => {
    const alone = await bob.send(pn(ALICE), { text: "read me" });
    const together = await bob.send(groups.lid, { text: "read me, too" });
    await second.text("read me, too");
    await alice.socket.readMessages([(await alice.text("read me")).key, (await alice.text("read me, too")).key]);
    await second.update(alone.key.id, ({ status, key }) => status === READ && !key.fromMe && key.remoteJid === bare(bob.me.lid));
    await second.receipt(together.key.id, ({ userJid, readTimestamp }) => userJid === member(alice, "lid") && readTimestamp);
});

check("a token that somebody gives goes along with the answers", async () => {
    await alice.send(pn(BOB), { text: "trust me" });
    await until("a token", () => bob.memory.names("tctoken").length > 0);
    const { key } = await bob.send(pn(ALICE), { text: "I do" });
    assert.match(bob.stanza("message", key.id), /<tctoken/);
    await alice.text("I do");
});

checkEach("quote, mention, reaction, edit, poll and deletion arrive as what they are", async (group, addressing) => {
    const question = await bob.send(group, { text: `who? ${addressing}` });
    const asked = await alice.text(`who? ${addressing}`);
    const mentions = [member(bob, addressing)];
    const sent = await alice.send(group, { text: `@you ${addressing}`, mentions }, { quoted: asked });
    const { contextInfo } = (await bob.content(sent.key.id)).message.extendedTextMessage;
    assert.deepEqual([contextInfo.stanzaId, contextInfo.mentionedJid], [question.key.id, mentions]);
    assert.equal(contextInfo.quotedMessage.extendedTextMessage.text, `who? ${addressing}`);

    await alice.send(group, { react: { text: "👍", key: asked.key } });
    const isReaction = ({ key, reaction }) => key.id === question.key.id && key.fromMe && reaction.text === "👍";
    await bob.event("messages.reaction", (reactions) => reactions.some(isReaction));

    const edit = await alice.send(group, { text: "only you", edit: sent.key });
    const edited = await bob.update(sent.key.id, ({ message }) => message?.editedMessage);
    assert.equal(textOf(edited.message.editedMessage), "only you");

    const poll = await alice.send(group, { poll: { name: "Tea?", values: ["yes", "no"], selectableCount: 1 } });
    const { name, options } = (await bob.content(poll.key.id)).message.pollCreationMessageV3;
    assert.deepEqual([name, options.map((option) => option.optionName)], ["Tea?", ["yes", "no"]]);

    const deletion = await alice.send(group, { delete: sent.key });
    await bob.update(sent.key.id, ({ message, messageStubType }) => message === null && messageStubType === REVOKE);

    const quote = await onPhone(CAROL, sent.key.id);
    assert.deepEqual([quote.quoted, quote.mentions], [question.key.id, mentions]);
    for (const [kind, { key }, text] of [["edit", edit, "only you"], ["poll", poll, "Tea?"], ["revoke", deletion, null]]) {
        const got = await onPhone(CAROL, key.id);
        assert.deepEqual([got.kind, got.text], [kind, text]);
    }
});

check("files arrive byte for byte", async () => {
    const [small, large] = [randomBytes(100 * 1024), randomBytes(3 * 1024 * 1024)];
    // With a preview, a length and a waveform given, Baileys looks for none in the random bytes.
    const contents = {
        image: { image: small, caption: "a picture", jpegThumbnail: "/9j/" },
        voice: { audio: small, ptt: true, mimetype: "audio/ogg; codecs=opus", seconds: 3, waveform: new Uint8Array(64) },
        document: { document: large, fileName: "large.bin", mimetype: "application/octet-stream" },
    };
    for (const chat of [groups.lid, pn(BOB)]) {
        for (const [kind, content] of Object.entries(contents)) {
            const { key } = await alice.send(chat, content);
            const file = await bob.file(await bob.content(key.id));
            assert.ok(file.equals(kind === "document" ? large : small), kind);
            const { media, ...message } = await onPhone(BOB, key.id);
            assert.deepEqual([message.kind, media.bytes], [kind, file.length]);
        }
    }
});

check("the phone uploads a file again for a client that cannot fetch it", async () => {
    const image = randomBytes(10 * 1024);
    const { key } = await alice.send(groups.lid, { image, jpegThumbnail: "/9j/" });
    const got = await bob.content(key.id);
    got.message.imageMessage.directPath = "/v/gone?ccb=1-7";
    await assert.rejects(bob.file(got), ({ output }) => output.statusCode === 404);
    // Baileys takes the host of the new address from here.
    await bob.socket.refreshMediaConn();
    const asked = bob.socket.updateMediaMessage(got);
    // Baileys waits for the answer without limit.
    await bob.event("messages.media-update", (updates) => updates.some((update) => update.key.id === key.id && !update.error));
    assert.ok((await bob.file(await asked)).equals(image));
});

checkEach("a client that lost its keys asks for the message again, and others do not get it twice", async (group, addressing) => {
    loseSenderKey(bob, alice, addressing);
    const { key } = await alice.send(group, { text: `again ${addressing}` });
    undecryptable.push(key.id);
    await bob.text(`again ${addressing}`);
    assert.match(bob.stanza("receipt", key.id), /type='retry'/);
    // What comes after the second sending shows that nobody got it twice.
    const next = await alice.send(group, { text: `after again ${addressing}` });
    await Promise.all([bob, second].map((client) => client.text(`after again ${addressing}`)));
    assert.equal(second.all((message) => message.key.id === key.id).length, 1);
    for (const phone of [BOB, CAROL]) {
        await onPhone(phone, next.key.id);
        assert.equal((await onPhone(phone, key.id)).times, 1);
    }
});

check("somebody who watches an account learns at once whether it is online, and each change", async () => {
    const last = (test) => (update) => update.id === pn(ALICE) && test(update.presences[pn(ALICE)]);
    let after = bob.events.length;
    await bob.socket.presenceSubscribe(pn(ALICE));
    await bob.event("presence.update", last((presence) => presence.lastKnownPresence === "available"), after);
    for (const state of ["unavailable", "available"]) {
        after = bob.events.length;
        await alice.socket.sendPresenceUpdate(state);
        const isTold = (presence) => presence.lastKnownPresence === state && (state === "available" || presence.lastSeen > 0);
        await bob.event("presence.update", last(isTold), after);
    }
});

check("others see that somebody types or records", async () => {
    const [aliceByNumber, aliceByLid] = [bare(alice.me.id), bare(alice.me.lid)];
    const chats = [[pn(BOB), aliceByNumber, aliceByNumber], [bare(bob.me.lid), aliceByLid, aliceByLid]];
    for (const addressing of ADDRESSINGS) chats.push([groups[addressing], groups[addressing], member(alice, addressing)]);
    for (const [to, chat, who] of chats) {
        for (const [sent, shown] of [["composing", "composing"], ["recording", "recording"], ["paused", "available"]]) {
            const after = bob.events.length;
            await alice.socket.sendPresenceUpdate(sent, to);
            const isShown = ({ id, presences }) => id === chat && presences[who]?.lastKnownPresence === shown;
            await bob.event("presence.update", isShown, after);
        }
    }
});

check("one client archives and pins a chat, and the other one learns it", async () => {
    const [lastMessage] = alice.all((message) => textOf(message) === "hello Alice");
    const chat = lastMessage.key.remoteJid;
    const steps = [
        [{ archive: true, lastMessages: [lastMessage] }, ({ archived }) => archived === true],
        [{ pin: true }, ({ pinned }) => pinned > 0],
        [{ pin: false }, ({ pinned }) => pinned === null],
    ];
    for (const [change, isKnown] of steps) {
        const after = second.events.length;
        await alice.socket.chatModify(change, chat);
        await second.event("chats.update", (chats) => chats.some((one) => one.id === chat && isKnown(one)), after);
    }
});

check("others see the text about an account, and its picture", async () => {
    await alice.socket.updateProfileStatus("at sea");
    const [{ status }] = await bob.socket.fetchStatus(pn(ALICE));
    assert.equal(status.status, "at sea");
    const picture = await sharp({ create: { width: 8, height: 8, channels: 3, background: "red" } }).jpeg().toBuffer();
    await alice.socket.updateProfilePicture(alice.me.id, picture);
    await bob.event("contacts.update", (contacts) => contacts.some(({ id, imgUrl }) => id === pn(ALICE) && imgUrl === "changed"));
    for (const kind of ["image", "preview"]) {
        const shown = await fetch(await bob.socket.profilePictureUrl(pn(ALICE), kind));
        const { format, width } = await sharp(Buffer.from(await shown.arrayBuffer())).metadata();
        assert.deepEqual([format, width], ["jpeg", 640]);
    }
    await alice.socket.removeProfilePicture(alice.me.id);
    await bob.event("contacts.update", (contacts) => contacts.some(({ id, imgUrl }) => id === pn(ALICE) && imgUrl === "removed"));
    await assert.rejects(bob.socket.profilePictureUrl(pn(ALICE)), ({ data }) => data === 404);
});

check("nothing comes from somebody who is blocked", async () => {
    assert.deepEqual(await bob.socket.fetchBlocklist(), []);
    await bob.socket.updateBlockStatus(pn(ALICE), "block");
    assert.deepEqual(await bob.socket.fetchBlocklist(), [bare(alice.me.lid)]);
    const { key } = await alice.send(pn(BOB), { text: "blocked" });
    await bob.socket.updateBlockStatus(pn(ALICE), "unblock");
    assert.deepEqual(await bob.socket.fetchBlocklist(), []);
    await alice.send(pn(BOB), { text: "not blocked" });
    await bob.text("not blocked");
    assert.deepEqual(bob.all((message) => message.key.id === key.id), []);
});

checkEach("a group where only admins write refuses others", async (group, addressing) => {
    await change(group, "announce", { on: true });
    const { key, ack } = await bob.send(group, { text: `refused ${addressing}` });
    refused.push(key.id);
    assert.equal(ack.error, "403");
    await bob.update(key.id, ({ status, messageStubParameters }) => status === ERROR && String(messageStubParameters) === "403");
    await alice.send(group, { text: `from an admin ${addressing}` });
    await bob.text(`from an admin ${addressing}`);
    await change(group, "announce", { on: false });
    const next = await bob.send(group, { text: `allowed ${addressing}` });
    await alice.text(`allowed ${addressing}`);
    await onPhone(CAROL, next.key.id);
    assert.deepEqual(alice.all((message) => message.key.id === key.id), []);
});

check("a session of the daemon is linked beside the clients", async () => {
    await startDaemon();
    assert.equal((await api("POST", "", { name: "erin" })).status, 201);
    assert.equal((await api("POST", "/erin/start")).status, 200);
    const qr = await until("a QR", async () => {
        const { status, text } = await api("GET", "/erin/qr?format=text");
        return status === 200 && text;
    });
    await admin("POST", `mock-phone/scan-qr?phone=${ERIN}`, qr);
    await until("the session", async () => JSON.parse((await api("GET", "/erin")).text).status === "ready");
    const { lid } = (await admin("GET", "world")).accounts.find(({ phone }) => phone === ERIN);
    erin = { me: { id: pn(ERIN), lid: lid.includes("@") ? lid : `${lid}@lid` } };
});

checkEach("the daemon's texts reach clients in a group, with whom they mention", async (group, addressing) => {
    await change(group, "add", { participants: [ERIN] });
    await until("the group", async () => (await api("GET", `/erin/groups/${group}`)).status === 200);
    const id = await daemonSends("text", group, { text: `Hello @${BOB} ${addressing}`, mentions: [BOB] });
    const shown = member(bob, addressing);
    const got = await bob.content(id);
    assert.deepEqual([got.key.remoteJid, bare(got.key.participant), got.pushName], [group, member(erin, addressing), "Erin"]);
    assert.equal(textOf(got), `Hello @${shown.split("@")[0]} ${addressing}`);
    assert.deepEqual(got.message.extendedTextMessage.contextInfo.mentionedJid, [shown]);
    // The second one comes without new keys.
    await daemonSends("text", group, { text: `second of the daemon ${addressing}` });
    for (const client of [alice, second, bob]) await client.text(`second of the daemon ${addressing}`);
});

check("the daemon writes to a person, by number and by LID, and is answered", async () => {
    for (const [to, text] of [[BOB, "by number"], [bare(bob.me.lid), "by LID"]]) {
        const id = await daemonSends("text", to, { text });
        const got = await bob.content(id);
        assert.deepEqual([textOf(got), got.pushName, got.key.fromMe], [text, "Erin", false]);
        assert.ok([got.key.remoteJid, got.key.remoteJidAlt].includes(pn(ERIN)), JSON.stringify(got.key));
    }
    const { key } = await bob.send(pn(ERIN), { text: "hello Erin" });
    await bob.update(key.id, ({ status }) => status === DELIVERY_ACK);
});

check("the daemon's places, contacts and polls arrive as what they are", async () => {
    const where = { latitude: 52.5163, longitude: 13.3777, description: "The gate", address: "Pariser Platz" };
    const place = (await bob.content(await daemonSends("location", groups.lid, where))).message.locationMessage;
    assert.deepEqual([place.degreesLatitude, place.degreesLongitude, place.name], [52.5163, 13.3777, "The gate"]);
    const person = { contactName: "Carol; from work", contactNumber: CAROL };
    const contact = (await bob.content(await daemonSends("contact", groups.lid, person))).message.contactMessage;
    assert.equal(contact.displayName, "Carol; from work");
    assert.match(contact.vcard, new RegExp(`waid=${CAROL}:\\+${CAROL}`));
    const question = { name: "Tea?", options: ["yes", "no"] };
    const asked = (await bob.content(await daemonSends("poll", groups.lid, question))).message;
    const { options, selectableOptionsCount } = asked.pollCreationMessageV3;
    assert.deepEqual([options.map(({ optionName }) => optionName), selectableOptionsCount], [["yes", "no"], 1]);
    assert.equal(asked.messageContextInfo.messageSecret.length, 32);
    const many = await bob.content(await daemonSends("poll", groups.lid, { ...question, allowMultipleAnswers: true }));
    assert.equal(many.message.pollCreationMessage.selectableOptionsCount, 0);
});

check("the daemon's files arrive as they were sent, and it gives the files of others", async () => {
    const large = randomBytes(3 * 1024 * 1024 + 7);
    // A PNG of one pixel, and a film as far as anybody looks.
    const pixel = Buffer.from("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==", "base64");
    const film = Buffer.concat([Buffer.from("\0\0\0\x18ftypisom\0\0\0\0isomavc1"), randomBytes(1024)]);
    for (const [kind, file, more] of [["image", pixel, { caption: "a pixel" }], ["video", film, {}], ["document", large, { filename: "a.bin" }]]) {
        for (const chat of [groups.lid, BOB]) {
            const got = await bob.content(await daemonSends(kind, chat, { base64: file.toString("base64"), ...more }));
            const shown = got.message[`${kind}Message`];
            assert.deepEqual([Number(shown.fileLength), shown.caption || undefined, shown.fileName], [file.length, more.caption, more.filename]);
            if (kind === "image") assert.deepEqual([shown.mimetype, shown.width, shown.jpegThumbnail.length > 0], ["image/png", 1, true]);
            assert.ok((await bob.file(got)).equals(file), kind);
        }
    }
    const { key } = await bob.send(groups.lid, { document: large, fileName: "b.bin", mimetype: "application/zip" });
    await told(key.id, 1);
    const answer = await fetch(`${apiUrl}/api/sessions/erin/messages/${groups.lid}/${key.id}/media`, { headers: { "X-API-Key": API_KEY } });
    assert.deepEqual([answer.status, answer.headers.get("content-type")], [200, "application/zip"]);
    assert.ok(Buffer.from(await answer.arrayBuffer()).equals(large));
});

/** The events of Erin's session about a message, in their order, once there are `count`. */
function told(id, count) {
    const look = async () => {
        const { events } = JSON.parse((await api("GET", "/erin/events?limit=1000")).text);
        const about = events.filter(({ event, data }) => event.startsWith("message.") && data.id === id);
        return about.length >= count && about;
    };
    return until(`${count} events about message ${id}`, look);
}

checkEach("what a client writes, changes and deletes is told by the daemon", async (group, addressing) => {
    const author = `${BOB}@c.us`;
    const { key } = await bob.send(group, { text: `to the daemon ${addressing}`, mentions: [member(erin, addressing)] });
    const [{ event, data }] = await told(key.id, 1);
    assert.deepEqual([event, data.chatId, data.author, data.body], ["message.received", group, author, `to the daemon ${addressing}`]);
    assert.deepEqual([data.mentionedIds, data.contact.pushName], [[`${ERIN}@c.us`], "Bob"]);
    await bob.send(group, { text: "another text", edit: key });
    await bob.send(group, { react: { text: "👍", key } });
    await bob.send(group, { delete: key });
    const [, edited, reaction, revoked] = await told(key.id, 4);
    assert.deepEqual([edited.event, edited.data.body], ["message.edited", "another text"]);
    assert.deepEqual([reaction.event, reaction.data.reaction, reaction.data.senderId], ["message.reaction", "👍", author]);
    assert.deepEqual([revoked.event, revoked.data.body], ["message.revoked", ""]);
});

checkEach("the daemon answers, forwards, reacts, edits and deletes as clients do", async (group, addressing) => {
    const post = (route, body) => daemonPosts(route, { chatId: group, ...body });
    const { key } = await bob.send(group, { text: `asked ${addressing}` });
    await told(key.id, 1);
    const reply = await post("reply", { quotedMessageId: key.id, text: `answered ${addressing}` });
    const { contextInfo } = (await bob.content(reply.messageId)).message.extendedTextMessage;
    assert.deepEqual([contextInfo.stanzaId, contextInfo.participant], [key.id, member(bob, addressing)]);
    assert.equal(contextInfo.quotedMessage.conversation ?? contextInfo.quotedMessage.extendedTextMessage.text, `asked ${addressing}`);
    const forward = { fromChatId: group, toChatId: BOB, messageId: key.id };
    const forwarded = await bob.content((await daemonPosts("forward", forward)).messageId);
    assert.deepEqual([textOf(forwarded), forwarded.message.extendedTextMessage.contextInfo.isForwarded], [`asked ${addressing}`, true]);
    await post("react", { messageId: key.id, emoji: "👍" });
    const isReaction = (one) => one.key.id === key.id && one.reaction.text === "👍";
    await bob.event("messages.reaction", (reactions) => reactions.some(isReaction));
    const { messageId } = await post("send-text", { text: `first words ${addressing}` });
    await bob.text(`first words ${addressing}`);
    await post("edit", { messageId, body: `better words ${addressing}` });
    await bob.update(messageId, ({ message }) => textOf(message?.editedMessage ?? {}) === `better words ${addressing}`);
    await post("delete", { messageId });
    await bob.update(messageId, ({ message, messageStubType }) => message === null && messageStubType === REVOKE);
});

checkEach("the daemon sends again to a client that lost its keys", async (group, addressing) => {
    loseSenderKey(bob, erin, addressing);
    const id = await daemonSends("text", group, { text: `again from the daemon ${addressing}` });
    undecryptable.push(id);
    await bob.text(`again from the daemon ${addressing}`);
    assert.match(bob.stanza("receipt", id), /type='retry'/);
});

check("what a client writes to the session's account is told, whatever it is", async () => {
    const contents = {
        text: { text: "in private" },
        image: { image: randomBytes(1024), caption: "a picture", jpegThumbnail: "/9j/" },
        document: { document: randomBytes(1024), fileName: "notes.bin", mimetype: "application/octet-stream" },
        location: { location: { degreesLatitude: 52.5, degreesLongitude: 13.4, name: "Gate" } },
        poll: { poll: { name: "Tea?", values: ["yes", "no"], selectableCount: 1 } },
    };
    for (const [kind, content] of Object.entries(contents)) {
        const { key } = await bob.send(pn(ERIN), content);
        const [{ data }] = await told(key.id, 1);
        assert.deepEqual([data.type, data.chatId, data.kind, data.fromMe], [kind, `${BOB}@c.us`, "individual", false]);
        if (kind === "document") assert.deepEqual([data.media.filename, data.media.sizeBytes], ["notes.bin", 1024]);
        if (kind === "poll") assert.deepEqual(data.poll.options, ["yes", "no"]);
    }
});

check("messages wait for a client that is offline, and so do receipts", async () => {
    await disconnect(bob);
    const texts = ["while away, lid", "while away, pn", "while away, alone"];
    const sent = [];
    for (const [at, chat] of [groups.lid, groups.pn, pn(BOB)].entries()) sent.push(await alice.send(chat, { text: texts[at] }));
    await until("the messages wait", async () => (await device(bob)).waiting_stanzas >= texts.length);
    bob = await again(bob).open();
    const got = await Promise.all(texts.map((text) => bob.text(text)));
    assert.deepEqual(bob.all((message) => texts.includes(textOf(message))).map(textOf), texts);

    await disconnect(alice);
    await bob.socket.readMessages(got.map((message) => message.key));
    await until("the receipts wait", async () => (await device(alice)).waiting_stanzas >= texts.length);
    alice = await again(alice).open();
    for (const { key } of sent.slice(0, 2)) await alice.receipt(key.id, ({ readTimestamp }) => readTimestamp);
    await alice.update(sent[2].key.id, ({ status }) => status === READ);
});

check("a message that its sender does not send again comes from the own phone", async () => {
    await disconnect(bob);
    const { key } = await alice.send(groups.lid, { text: "from the phone" });
    undecryptable.push(key.id);
    await disconnect(alice);
    bob = again(bob);
    loseSenderKey(bob, alice, "lid");
    try {
        await bob.open();
        const got = await bob.text("from the phone");
        assert.equal(got.key.remoteJid, groups.lid);
    } finally {
        alice = await again(alice).open();
    }
});

check("nobody was refused anything else, and Baileys logged no other error", async () => {
    const acks = clients.flatMap(({ received }) => received).filter(({ tag, attrs }) => tag === "ack" && attrs.error);
    assert.deepEqual(acks.filter(({ attrs }) => !refused.includes(attrs.id)), []);
    const isExpected = (error) => EXPECTED_ERRORS.some((test) => test(error));
    assert.deepEqual(clients.flatMap(({ errors }) => errors).filter((error) => !isExpected(error)), []);
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
    }
} finally {
    const processes = [daemon, simulator].filter(Boolean);
    if (passed < checks.length) for (const { output } of processes) console.log(output);
    for (const client of clients.filter(({ hasEnded }) => !hasEnded)) await client.close();
    for (const child of processes) {
        child.kill("SIGTERM");
        await until("the end of a process", () => child.exitCode !== null || child.signalCode !== null);
    }
    if (dataDirectory) await rm(dataDirectory, { recursive: true });
}
console.log(`${passed} passed, ${checks.length - passed} failed`);
process.exit(passed === checks.length ? 0 : 1);
