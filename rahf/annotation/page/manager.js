// The manager's page: how the round is going, and what to do about it.

import { make, renderExample } from "./guide.js";
import { call } from "./outbox.js";
import { KINDS } from "./stage.js";

const get = (id) => document.getElementById(id);
const AGREEMENT = [["bias", 2], ["deviation", 2], ["plcc", 2], ["cc", 2], ["kappa", 2]];

// A button; its key is its own, so that it has the focus again when the tables are made anew.
function press(key, fields, act) {
  const button = make("button", fields);
  button.dataset.key = key;
  button.addEventListener("click", async () => {
    try { await act(); } catch (error) { get("summary").textContent = error.message; }
  });
  return button;
}

function row(place, cells) {
  place.append(make("tr", {}, ...cells.map((cell) => make("td", {}, cell))));
}

const digits = (value, count) => (typeof value === "number" ? value.toFixed(count) : "–");

function share({ right, of, needed }) {
  if (!of && !needed) return "–";
  return needed > of ? `${right} of ${of}, ${needed - of} to come` : `${right} of ${of}`;
}

function answers({ answers: given, at_work, to_come }) {
  const more = [at_work && `${at_work} at work`, to_come && `${to_come} to come`].filter(Boolean);
  return [`${given}`, ...more].join(", ");
}

// What each rater said about an image, and all of them together.
async function showImage(id) {
  const { image, answers: given } = await call(`/api/manager/images/${id}`);
  const labels = given.map((one) => one.label).filter(Boolean), picture = { ...image, source: image.url };
  const all = { ...labels[0], scores: {}, nothing_wrong: false, comment: "" };
  for (const name of [...KINDS, "misaligned_words"]) all[name] = labels.flatMap((label) => label[name]);
  const counts = image.words.map(({ id: word, text }) => [text, all.misaligned_words.filter((one) => one === word).length]);
  const note = counts.filter(([, count]) => count).map(([text, count]) => `${text}: ${count} of ${labels.length}`).join("; ");
  get("image_name").textContent = image.name;
  get("image_alone").href = image.url;
  get("answers").replaceChildren();
  if (labels.length > 1) get("answers").append(renderExample({ ...picture, label: all, title: "Everybody", note }));
  for (const { rater, label, skipped } of given)
    get("answers").append(label ? renderExample({ ...picture, label, title: rater, note: label.comment })
      : make("p", {}, `${rater} skipped it: ${skipped}`));
  get("image_dialog").showModal();
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
  const focused = document.activeElement?.dataset.key;
  get("raters").replaceChildren();
  for (const rater of found.raters) {
    const { name, paused, agreement } = rater;
    const cells = [name, rater.answers, rater.skips, digits(rater.median_seconds, 1), digits(rater.per_hour, 0),
      share(rater.practice), share(rater.gold),
      ...AGREEMENT.map(([metric, count]) => digits(agreement[metric], count)), state(rater)];
    row(get("raters"), [...cells, press(`rater/${name}`, { textContent: paused ? "Let go on" : "Pause" }, async () => {
      await call(`/api/manager/raters/${encodeURIComponent(name)}`, { paused: !paused });
      await refresh();
    })]);
  }
  get("disputed").replaceChildren();
  for (const one of found.disputed)
    row(get("disputed"), [
      press(`image/${one.image_id}`, { textContent: one.name, className: "link" }, () => showImage(one.image_id)),
      one.prompt, answers(one), one.spread,
      press(`again/${one.image_id}`, { textContent: "Ask one more" }, async () => {
        await call(`/api/manager/images/${one.image_id}/again`, { raters: 1 });
        await refresh();
      })]);
  if (focused) document.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
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
