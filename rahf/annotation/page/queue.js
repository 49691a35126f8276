// Images that are fetched before their turn, so that work goes on without a connection.
// The server says how many; each has its lease, which every request renews.

import { ApiError, call } from "./outbox.js";

const PATIENCE = 120000; // milliseconds for an image

// Fetches an assignment's image, so that showing it needs no connection.
export async function fetchImage(assignment) {
  const answer = await fetch(assignment.image.url, { signal: AbortSignal.timeout(PATIENCE) });
  if ([401, 403, 429, 503].includes(answer.status)) throw new ApiError(answer.status, await answer.json());
  // A damaged file: the rater can say so.
  assignment.image.source = answer.ok ? URL.createObjectURL(await answer.blob()) : null;
  return assignment;
}

export function forget(assignment) {
  if (assignment.image.source) URL.revokeObjectURL(assignment.image.source);
}

export class Queue {
  // held(): the ids of assignments that the page has in hand elsewhere.
  constructor(rater, held) {
    Object.assign(this, { rater, held, ready: [], filling: null, arrived: () => {} });
  }

  // Takes an assignment out of the queue: the next, or that with an id.
  take(id) {
    const index = id ? this.ready.findIndex((one) => one.id === id) : 0;
    return index < 0 ? undefined : this.ready.splice(index, 1)[0];
  }

  putBack(assignment) { this.ready.unshift(assignment); }

  // When the page is closed: others need not wait until the leases expire.
  release() {
    const body = JSON.stringify({ rater: this.rater, ids: this.ready.map((one) => one.id) });
    const headers = { "Content-Type": "application/json" };
    if (this.ready.length) fetch("/api/release", { method: "POST", headers, body, keepalive: true }).catch(() => {});
  }

  clear() {
    this.ready.forEach(forget);
    this.ready = [];
  }

  // Fetches as many as the server gives; resolves to why it gives no more.
  fill() {
    this.filling ||= this.fillAll().finally(() => { this.filling = null; });
    return this.filling;
  }

  async fillAll() {
    for (;;) {
      const holding = [...new Set([...this.held(), ...this.ready.map((one) => one.id)])].slice(-100);
      const { assignment, reason, gone } = await call("/api/next", { rater: this.rater, holding });
      for (const lost of this.ready.filter((one) => gone.includes(one.id))) forget(this.take(lost.id));
      if (!assignment) return reason;
      await fetchImage(assignment);
      this.ready.push(assignment);
      this.arrived();
    }
  }

  // Resolves when there is a next one, to null, or else to why there is none.
  async next() {
    if (this.ready.length) return null;
    const arrival = new Promise((go) => { this.arrived = () => go(null); });
    const filling = this.fill();
    filling.catch(() => {}); // whoever wins the race has told
    const reason = await Promise.race([filling, arrival]);
    return this.ready.length ? null : reason;
  }
}
