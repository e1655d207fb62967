// A Baileys client that talks to the simulator, with waits for what happens to it.
//
// Two things differ from a client of the real WhatsApp: the URL, and the root key, which is one for the whole process. Everything
// else here is configuration that Baileys offers; its files are not changed.

import { EventEmitter } from "node:events";
import https from "node:https";
import net from "node:net";
import path from "node:path";
import { pathToFileURL } from "node:url";

export const baileys = await import(pathToFileURL(path.join(process.env.CHECK_MODULES, "baileys", "lib", "index.js")));
const { BufferJSON, DisconnectReason, initAuthCreds, proto } = baileys;

/** Everything here takes well under a second; the machine may be busy with other things. */
export const WAIT_MS = 20_000;

/** Makes Baileys trust the simulator's certificate chain. */
export function trust(rootKey) {
    baileys.WA_CERT_DETAILS.PUBLIC_KEY = Buffer.from(rootKey, "hex");
}

/** What libsignal, below Baileys, prints past Baileys' logger: whole sessions with their keys. */
const SESSIONS = /^(Closing|Opening|Removing|Decrypted message with closed|Failed to decrypt|Session error|Session already)/;
for (const name of ["info", "warn", "error", "log"]) {
    const original = console[name];
    console[name] = (...parts) => SESSIONS.test(String(parts[0])) || original.apply(console, parts);
}

/** What a client remembers when its process ends. Values are kept as JSON, so that nothing is shared by reference. */
export class Memory {
    constructor(saved) {
        this.values = new Map(saved?.values);
        this.creds = saved ? JSON.parse(saved.creds, BufferJSON.reviver) : initAuthCreds();
    }

    save() {
        return { creds: JSON.stringify(this.creds, BufferJSON.replacer), values: [...this.values] };
    }

    /** The names of all values of a type. */
    names(type) {
        return [...this.values.keys()].filter((name) => name.startsWith(`${type}/`));
    }

    async get(type, ids) {
        const known = ids.filter((id) => this.values.has(`${type}/${id}`));
        const read = (id) => {
            const value = JSON.parse(this.values.get(`${type}/${id}`), BufferJSON.reviver);
            return type === "app-state-sync-key" ? proto.Message.AppStateSyncKeyData.fromObject(value) : value;
        };
        return Object.fromEntries(known.map((id) => [id, read(id)]));
    }

    async set(data) {
        for (const [type, values] of Object.entries(data)) {
            for (const [id, value] of Object.entries(values)) {
                if (value === null || value === undefined) this.values.delete(`${type}/${id}`);
                else this.values.set(`${type}/${id}`, JSON.stringify(value, BufferJSON.replacer));
            }
        }
    }
}

/** Baileys uploads to `https://` only. The simulator has no TLS, so this agent opens plain connections. */
class PlainAgent extends https.Agent {
    createConnection({ host, hostname, port }) {
        return net.connect({ host: host ?? hostname, port });
    }
}

/** Baileys downloads from `https://` only, too. */
const plainDispatcher = {
    dispatch(options, handler) {
        const dispatcher = globalThis[Symbol.for("undici.globalDispatcher.1")];
        return dispatcher.dispatch({ ...options, origin: String(options.origin).replace("https:", "http:") }, handler);
    },
};

export class Client {
    /** `scan` gets each QR code; a client with a linked `memory` shows none. */
    constructor({ name, url, scan, memory = new Memory() }) {
        Object.assign(this, { name, url, scan, memory, messages: new Map() });
        // So far: events as `{event, data}`, stanzas that came, stanzas that were sent (as text), what was logged as an error.
        Object.assign(this, { events: [], received: [], sent: [], errors: [] });
        this.changed = new EventEmitter().setMaxListeners(0);
    }

    /** Connects. A client that is not linked is linked on the way, and restarts once. */
    start() {
        Object.assign(this, { isOpen: false, isCaughtUp: false, isEnding: false, hasEnded: false, ending: undefined });
        this.wasNamed = Boolean(this.me?.name);
        const socket = baileys.makeWASocket({
            waWebSocketUrl: this.url,
            auth: { creds: this.memory.creds, keys: this.memory },
            logger: this.logger(),
            browser: ["Ubuntu", "Chrome", "22.04.4"],
            shouldSyncHistoryMessage: () => true,
            getMessage: async ({ id }) => this.messages.get(id),
            fetchAgent: new PlainAgent(),
            options: { dispatcher: plainDispatcher },
        });
        this.socket = socket;
        socket.ws.on("frame", (stanza) => {
            if (stanza.tag) this.received.push(stanza);
            this.changed.emit("change");
        });
        socket.ev.process((events) => {
            for (const [event, data] of Object.entries(events)) if (socket === this.socket) this.onEvent(event, data);
        });
        return this;
    }

    logger() {
        const log = (level) => (data, message) => {
            if (data.msg === "xml send") this.sent.push(data.xml);
            if (level !== "error" && level !== "fatal") return;
            this.errors.push({ client: this.name, isEnding: this.isEnding, message: message ?? data.msg ?? data, data });
        };
        const levels = ["trace", "debug", "info", "warn", "error", "fatal"].map((level) => [level, log(level)]);
        const logger = { level: "trace", ...Object.fromEntries(levels), child: () => logger };
        return logger;
    }

    onEvent(event, data) {
        this.events.push({ event, data });
        if (event === "connection.update") this.onConnection(data);
        this.changed.emit("change");
    }

    onConnection({ qr, connection, lastDisconnect, receivedPendingNotifications }) {
        if (qr) this.scan(qr).catch((error) => (this.failure = error));
        if (connection === "open") this.isOpen = true;
        if (receivedPendingNotifications) this.isCaughtUp = true;
        if (connection !== "close") return;
        this.ending = lastDisconnect?.error;
        this.hasEnded = this.isEnding || this.ending?.output?.statusCode !== DisconnectReason.restartRequired;
        if (!this.hasEnded) setImmediate(() => this.start());
    }

    /** The client is logged in, has what waited for it, and is online. */
    async open() {
        await this.until("the login", () => this.isOpen && this.isCaughtUp && this.me?.name);
        // At the login, Baileys says that it is online only when it knows its name. Until then its receipts say `inactive`.
        if (!this.wasNamed) await this.socket.sendPresenceUpdate("available");
        return this;
    }

    async close() {
        this.isEnding = true;
        await this.socket.end();
        await this.until("the end of the connection", () => this.hasEnded);
    }

    /** Waits until `look` finds something, which is the result. `look` is called at each event and stanza. */
    async until(what, look) {
        let check, timer;
        const found = new Promise((resolve, reject) => {
            const late = () => new Error(`${this.name}, not in time: ${what}; ${this.failure ?? this.ending ?? "connected"}`);
            timer = setTimeout(() => reject(late()), WAIT_MS);
            check = () => {
                try {
                    const found = look();
                    if (found) resolve(found);
                } catch (error) {
                    reject(error);
                }
            };
            this.changed.on("change", check);
            check();
        });
        return found.finally(() => {
            clearTimeout(timer);
            this.changed.off("change", check);
        });
    }

    /** The first event of this name, past or to come, for which `test(data)` finds something, which is the result. */
    event(name, test, after = 0) {
        const read = ({ event, data }) => event === name && test(data);
        return this.until(`${name} with ${test}`, () => this.events.slice(after).map(read).find(Boolean));
    }

    /** All messages so far that `test` accepts, own ones included. */
    all(test) {
        const read = ({ event, data }) => (event === "messages.upsert" ? data.messages : []);
        return this.events.flatMap(read).filter(test);
    }

    /** A message with this text. */
    text(text) {
        return this.until(`the text "${text}"`, () => this.all((message) => textOf(message) === text)[0]);
    }

    /** The message with this id and a content: before the content may come a message that could not be decrypted. */
    content(id) {
        return this.until(`message ${id}`, () => this.all(({ key, message }) => key.id === id && message)[0]);
    }

    /** A status, an edit or a deletion of the message with this id. Baileys may report it as one with the message itself. */
    update(id, test) {
        const read = ({ event, data }) => {
            if (event === "messages.update") return data.map(({ key, update }) => ({ ...update, key }));
            return event === "messages.upsert" ? data.messages : [];
        };
        const isIt = (update) => update.key.id === id && test(update);
        return this.until(`an update of ${id} with ${test}`, () => this.events.flatMap(read).find(isIt));
    }

    /** A receipt of the message with this id in a group. Baileys may report it as one with the message itself, too. */
    receipt(id, test) {
        const read = ({ event, data }) => {
            if (event === "message-receipt.update") return data;
            const messages = event === "messages.upsert" ? data.messages : [];
            return messages.flatMap(({ key, userReceipt }) => (userReceipt ?? []).map((receipt) => ({ key, receipt })));
        };
        const isIt = ({ key, receipt }) => key.id === id && test(receipt);
        return this.until(`a receipt of ${id} with ${test}`, () => this.events.flatMap(read).find(isIt));
    }

    /** Sends. Baileys waits until the message is written, but not for the server's acknowledgement; this does. */
    async send(to, content, options) {
        const message = await this.socket.sendMessage(to, content, options);
        this.messages.set(message.key.id, message.message);
        const isAck = ({ tag, attrs }) => tag === "ack" && attrs.class === "message" && attrs.id === message.key.id;
        message.ack = await this.until(`the acknowledgement of ${message.key.id}`, () => this.received.find(isAck)?.attrs);
        return message;
    }

    /** The first stanza with this tag and id as it was sent. */
    stanza(tag, id) {
        return this.sent.find((stanza) => stanza.startsWith(`<${tag} id='${id}'`));
    }

    /** The file of a message, decrypted. */
    file(message) {
        return baileys.downloadMediaMessage(message, "buffer", { options: { dispatcher: plainDispatcher } });
    }

    get me() {
        return this.memory.creds.me;
    }
}

export function textOf({ message }) {
    return message?.conversation || message?.extendedTextMessage?.text;
}
