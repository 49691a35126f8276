// Events that the server has not yet acknowledged, kept in this browser. They are sent in
// order; a resend has the same id, so the server counts it once.

const RETRY = 1000, LONGEST = 15000; // milliseconds

export class ApiError extends Error {
  constructor(status, body) {
    super(body.message || `The server answered ${status}.`);
    this.status = status;
    this.code = body.error;
  }
}

export async function call(path, body, method) {
  const options = { method: method || (body ? "POST" : "GET"), headers: {} };
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
    this.key = `rahf-outbox-${rater}`;
    this.told = told;
    this.refused = refused;
    this.waiting = JSON.parse(localStorage.getItem(this.key) || "[]");
    this.sending = null;
    this.wait = RETRY;
    addEventListener("online", () => this.send());
    this.send();
  }

  add(assignment, kind, fields) {
    const event = { id: makeId(), kind, ...fields };
    const last = this.waiting.at(-1);
    // A draft replaces the one before it, unless that is on its way.
    if (kind === "draft" && last && last.assignment === assignment &&
        last.event.kind === "draft" && !last.sent) this.waiting.pop();
    this.waiting.push({ assignment, event });
    this.keep();
    this.send();
  }

  // Returns the last event with a label that waits for an assignment, or undefined.
  latest(assignment) {
    return this.waiting.findLast((one) => one.assignment === assignment && one.event.label)?.event;
  }

  keep() {
    localStorage.setItem(this.key, JSON.stringify(this.waiting.map(({ assignment, event }) => ({ assignment, event }))));
  }

  // Resolves when nothing waits any more.
  async empty() {
    while (this.waiting.length) await this.send() || await new Promise((go) => setTimeout(go, 200));
  }

  send() {
    this.sending ||= this.sendAll().finally(() => { this.sending = null; });
    return this.sending;
  }

  async sendAll() {
    clearTimeout(this.timer);
    while (this.waiting.length) {
      const { assignment } = this.waiting[0];
      let count = 0;
      while (count < 100 && this.waiting[count]?.assignment === assignment) count++;
      const batch = this.waiting.slice(0, count);
      batch.forEach((one) => { one.sent = true; });
      this.told("saving");
      try {
        await call(`/api/assignments/${assignment}/events`, { events: batch.map((one) => one.event) });
      } catch (error) {
        const lasting = error instanceof ApiError && [400, 404, 409, 413].includes(error.status);
        if (!lasting) {
          const why = error instanceof ApiError ? error.message : "No connection.";
          this.told(`${why} Your work is kept in this browser and will be sent.`);
          this.timer = setTimeout(() => this.send(), this.wait);
          this.wait = Math.min(2 * this.wait, LONGEST);
          return false;
        }
        this.refused(assignment, error);
      }
      this.wait = RETRY;
      this.waiting.splice(0, count);
      this.keep();
    }
    this.told("saved");
    return true;
  }
}
