// Events that the server has not yet acknowledged, kept in this browser. They are sent in
// order; a resend has the same id, so the server counts it once.
//
// Each has a key of its own, so that tabs never overwrite each other's, and one tab at a
// time sends, so that they arrive in their order.

const RETRY = 1000, LONGEST = 15000; // milliseconds
const PATIENCE = 30000; // milliseconds until a silent connection counts as lost
const LARGEST = 200000; // characters of one request; the server takes 256 KiB

export class ApiError extends Error {
  constructor(status, body) {
    super(body.message || `The server answered ${status}.`);
    this.status = status;
    this.code = body.error;
  }
}

export async function call(path, body, method) {
  const options = { method: method || (body ? "POST" : "GET"), headers: {}, signal: AbortSignal.timeout(PATIENCE) };
  if (body) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  const answer = await fetch(path, options);
  const found = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new ApiError(answer.status, found);
  return found;
}

export function makeId() { // crypto.randomUUID exists in secure contexts only
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export class Outbox {
  // told: called with "saved", "saving", or a sentence about what is wrong.
  // refused: called with the assignment and the error when the server will not have it.
  constructor(rater, told, refused) {
    Object.assign(this, { rater, told, refused, waiting: [], sending: null, wait: RETRY, unkept: false });
    this.prefix = `rahf-outbox/${rater}/`;
    addEventListener("online", () => this.send());
    this.read(); // now: `empty` and `latest` must know what a page before has left
    this.send();
  }

  add(assignment, kind, fields) {
    this.read();
    const event = { id: makeId(), kind, ...fields }, last = this.waiting.at(-1);
    const time = String(Math.max(Date.now(), (last?.time || 0) + 1)).padStart(16, "0");
    const entry = { key: `${this.prefix}${time}/${event.id}`, time: Number(time), assignment, event };
    this.waiting.push(entry);
    this.keep(entry);
    // A draft replaces the one before it, unless that is on its way.
    if (kind === "draft" && last && last.assignment === assignment && last.event.kind === "draft" && !last.sent)
      this.drop([last]);
    this.send();
  }

  // Returns the last event with a label that waits for an assignment, or undefined.
  latest(assignment) {
    return this.waiting.findLast((one) => one.assignment === assignment && one.event.label)?.event;
  }

  keep(entry) {
    try {
      localStorage.setItem(entry.key, JSON.stringify({ assignment: entry.assignment, event: entry.event }));
      entry.kept = true;
    } catch { // full, or forbidden: memory must do
      this.unkept = true;
    }
  }

  drop(entries) {
    for (const entry of entries) localStorage.removeItem(entry.key);
    this.waiting = this.waiting.filter((one) => !entries.includes(one));
  }

  // Takes over what other tabs, or this page before, have left, and forgets what they have sent.
  read() {
    const known = new Map(this.waiting.map((one) => [one.key, one])), kept = new Set();
    for (const key of Object.keys(localStorage)) {
      if (!key.startsWith(this.prefix)) continue;
      kept.add(key);
      if (known.has(key)) continue;
      const time = Number(key.slice(this.prefix.length).split("/")[0]);
      known.set(key, { key, time, kept: true, ...JSON.parse(localStorage.getItem(key)) });
    }
    this.waiting = [...known.values()].filter((one) => !one.kept || kept.has(one.key))
      .sort((one, other) => one.time - other.time);
  }

  // Resolves when nothing waits any more.
  async empty() {
    while (this.waiting.length) await this.send() || await new Promise((go) => setTimeout(go, 200));
  }

  send() {
    this.sending ||= this.alone(() => this.sendAll()).finally(() => { this.sending = null; });
    return this.sending;
  }

  alone(work) { // locks exist in secure contexts only
    return navigator.locks ? navigator.locks.request(`rahf-outbox/${this.rater}`, work) : work();
  }

  async sendAll() {
    clearTimeout(this.timer);
    for (this.read(); this.waiting.length; this.read()) {
      const { assignment } = this.waiting[0], batch = [];
      let size = 0;
      for (const one of this.waiting.slice(0, 100)) {
        size += JSON.stringify(one.event).length;
        if (one.assignment !== assignment || (batch.length && size > LARGEST)) break;
        batch.push(one);
        one.sent = true;
      }
      this.told("saving");
      try {
        await call(`/api/assignments/${assignment}/events`, { rater: this.rater, events: batch.map((one) => one.event) });
      } catch (error) {
        const lasting = error instanceof ApiError && [400, 404, 409, 413].includes(error.status);
        if (!lasting) {
          batch.forEach((one) => { one.sent = false; });
          const why = error instanceof ApiError ? error.message : "No connection.";
          this.told(`${why} ${this.promise()}`);
          this.timer = setTimeout(() => this.send(), this.wait);
          this.wait = Math.min(2 * this.wait, LONGEST);
          return false;
        }
        this.refused(assignment, error);
      }
      this.wait = RETRY;
      this.drop(batch);
    }
    this.unkept = false;
    this.told("saved");
    return true;
  }

  promise() {
    return this.unkept ? "This browser cannot keep your work: leave this page open until it is sent."
      : "Your work is kept in this browser and will be sent.";
  }
}
