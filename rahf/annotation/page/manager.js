// The manager's page: how the round is going, and what to do about it.

import { call } from "./outbox.js";

const get = (id) => document.getElementById(id);
const AGREEMENT = [["bias", 2], ["deviation", 2], ["plcc", 2], ["cc", 2], ["kappa", 2]];

function row(place, cells, name, act) {
  const made = document.createElement("tr");
  for (const cell of cells) {
    const data = document.createElement("td");
    data.append(cell);
    made.append(data);
  }
  const last = document.createElement("td"), button = document.createElement("button");
  button.textContent = name;
  button.addEventListener("click", async () => {
    try { await act(); await refresh(); } catch (error) { get("summary").textContent = error.message; }
  });
  last.append(button);
  made.append(last);
  place.append(made);
}

function link(text, address) {
  const made = document.createElement("a");
  Object.assign(made, { textContent: text, href: address, target: "_blank" });
  return made;
}

const digits = (value, count) => (typeof value === "number" ? value.toFixed(count) : "–");

function share({ right, of, needed }) {
  if (!of && !needed) return "–";
  return needed > of ? `${right} of ${of}, ${needed - of} to come` : `${right} of ${of}`;
}

function state(rater) {
  if (rater.paused) return `paused: ${rater.pause_reason}`;
  return rater.qualified ? "at work" : "in practice";
}

function show(found) {
  const hour = `${found.per_hour} in the last hour`;
  get("summary").textContent = `${found.complete} of ${found.images} images complete; ${found.answers} answers, ${hour}; ${found.skips} skips`;
  const { events, running, error } = found.agreement;
  get("measured").textContent = error ? `agreement could not be measured: ${error}`
    : running ? "measuring the agreement" : events === null ? "" : "agreement as last measured";
  get("raters").replaceChildren();
  for (const rater of found.raters) {
    const { name, paused, agreement } = rater;
    const cells = [name, rater.answers, rater.skips, digits(rater.median_seconds, 1), digits(rater.per_hour, 0),
      share(rater.practice), share(rater.gold),
      ...AGREEMENT.map(([metric, count]) => digits(agreement[metric], count)), state(rater)];
    row(get("raters"), cells, paused ? "Let go on" : "Pause",
      () => call(`/api/manager/raters/${encodeURIComponent(name)}`, { paused: !paused }));
  }
  get("disputed").replaceChildren();
  for (const one of found.disputed)
    row(get("disputed"), [link(one.name, `/images/${one.image_id}`), one.prompt, one.answers, one.spread], "Ask one more",
      () => call(`/api/manager/images/${one.image_id}/again`, { raters: 1 }));
}

async function refresh() {
  try {
    show(await call("/api/manager/status"));
  } catch (error) {
    get("summary").textContent = error.message;
  }
}

refresh();
setInterval(refresh, 10000);
