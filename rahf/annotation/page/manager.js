// The manager's page: how the round is going, and what to do about it.

import { call } from "./outbox.js";

const get = (id) => document.getElementById(id);

function row(place, cells, name, act) {
  const made = document.createElement("tr");
  for (const cell of cells) {
    const data = document.createElement("td");
    data.textContent = cell;
    made.append(data);
  }
  const last = document.createElement("td"), button = document.createElement("button");
  button.textContent = name;
  button.addEventListener("click", async () => { await act(); await refresh(); });
  last.append(button);
  made.append(last);
  place.append(made);
}

async function refresh() {
  try {
    const found = await call("/api/manager/status");
    get("summary").textContent = `${found.complete} of ${found.images} images complete; ${found.answers} answers, ${found.skips} skips`;
    get("raters").replaceChildren();
    for (const rater of found.raters) {
      const { gold, paused } = rater;
      const known = gold.of ? `${gold.right} of ${gold.of} right` : "none yet";
      const path = `/api/manager/raters/${encodeURIComponent(rater.name)}`;
      row(get("raters"), [rater.name, rater.answers, rater.skips, known, paused ? `paused ${paused}` : "at work"],
        paused ? "Let go on" : "Pause", () => call(path, { paused: !paused }));
    }
    get("disputed").replaceChildren();
    for (const one of found.disputed)
      row(get("disputed"), [one.name, one.prompt, one.answers, one.spread], "Ask one more",
        () => call(`/api/manager/images/${one.image_id}/again`, { raters: 1 }));
  } catch (error) {
    get("summary").textContent = error.message;
  }
}

refresh();
setInterval(refresh, 10000);
