// The rater's page: one image after the other, saved at every action.

import { ApiError, Outbox, call } from "./outbox.js";
import { Guess } from "./guess.js";
import { KINDS, Stage } from "./stage.js";

const SCORES = { // as the paper's raters were asked, in our words
  plausibility: ["badly broken", "nothing broken"],
  alignment: ["shows something else", "shows all of the prompt"],
  aesthetics: ["ugly", "beautiful"],
  overall: ["very bad", "excellent"],
};
const IDLE = 60; // seconds without an action that do not count as work
const get = (id) => document.getElementById(id);

let me, outbox, stage, guess, assignment = null, mine = [], at = -1;
let label = emptyLabel(), undone = [], seconds = 0, acted = 0;

function emptyLabel() {
  return { implausible_points: [], misaligned_points: [], misaligned_words: [], scores: {}, nothing_wrong: false, comment: "" };
}

function say(text) { get("message").textContent = text; }

function told(state) {
  const place = get("connection");
  place.classList.toggle("lost", state !== "saved" && state !== "saving");
  place.textContent = { saved: "Saved", saving: "Saving…" }[state] || state;
}

// Seconds of work on this image: gaps count up to IDLE, and none while the page is hidden.
function tick() {
  const now = performance.now() / 1000;
  if (acted && !document.hidden) seconds += Math.min(now - acted, IDLE);
  acted = now;
}

function changed(before, revert = false) {
  if (revert) label = before;
  else undone.push(before);
  if (marked()) label.nothing_wrong = false;
  draft();
}

function draft() {
  tick();
  outbox.add(assignment.id, "draft", { label: structuredClone(label), seconds });
  render();
}

function marked() {
  return KINDS.some((kind) => label[kind].length) || label.misaligned_words.length > 0;
}

function edit(change) {
  const before = structuredClone(label);
  change();
  changed(before);
}

function undo() {
  if (!undone.length) return;
  label = undone.pop();
  stage.chosen = null;
  draft();
}

function lacking() {
  const open = Object.keys(SCORES).filter((name) => !label.scores[name]);
  if (open.length) return `Still to score: ${open.join(", ")}.`;
  if (!marked() && !label.nothing_wrong) return "Mark what is wrong, or say that nothing is.";
  return "";
}

async function save() {
  const missing = lacking();
  get("lacking").textContent = missing;
  if (missing) {
    const name = Object.keys(SCORES).find((one) => !label.scores[one]);
    (name ? document.querySelector(`input[name=${name}]`) : get("nothing")).focus();
    return;
  }
  tick();
  outbox.add(assignment.id, "answer", { label: structuredClone(label), seconds });
  await next();
}

async function skip(reason) {
  tick();
  outbox.add(assignment.id, "skip", { reason, seconds });
  await next();
}

// Goes on to the next image, as soon as the server has all that was said before.
async function next() {
  get("save").disabled = get("skip").disabled = true;
  try {
    await outbox.empty();
    const found = await patiently(() => call("/api/next", {}));
    await list();
    if (found.assignment) show(found.assignment);
    else {
      assignment = null;
      get("work").hidden = true;
      say(found.reason === "wait"
        ? "Others are at work on the last images. Load this page again in a few minutes."
        : "That was the last image. Thank you!");
    }
  } catch (error) {
    get("work").hidden = true;
    say(error.message);
  } finally {
    get("save").disabled = get("skip").disabled = false;
  }
}

async function patiently(ask) {
  for (;;) {
    try { return await ask(); } catch (error) {
      if (error instanceof ApiError && ![429, 500, 502, 503, 504].includes(error.status)) throw error;
      told("No connection. Trying again…");
      await new Promise((go) => setTimeout(go, 2000));
    }
  }
}

async function list() {
  me = await patiently(() => call("/api/me"));
  mine = (await patiently(() => call("/api/assignments"))).assignments;
}

async function go(step) {
  const index = at + step;
  if (!mine[index]) return;
  await outbox.empty();
  show((await patiently(() => call(`/api/assignments/${mine[index].id}`))).assignment);
}

function show(given) {
  assignment = given;
  at = mine.findIndex((one) => one.id === given.id);
  const waiting = outbox.latest(given.id);
  const known = (waiting || { label: given.draft }).label || {};
  label = { ...emptyLabel(), ...structuredClone(known) };
  for (const [name, value] of Object.entries(label)) if (value === null) label[name] = emptyLabel()[name];
  undone = [];
  seconds = Math.max(given.seconds, waiting?.seconds || 0); // of earlier visits
  acted = performance.now() / 1000;
  say("");
  get("lacking").textContent = "";
  get("practice").hidden = !given.qualification;
  get("work").hidden = false;
  showWords(given);
  guess.show(given.guess);
  stage.guess = given.guess;
  stage.show(given.image, given.radius);
  render();
  get("frame").focus({ preventScroll: true });
}

function showWords({ prompt, words }) {
  const characters = Array.from(prompt), place = get("words"); // offsets are in code points
  place.replaceChildren();
  let end = 0;
  for (const word of words) {
    place.append(characters.slice(end, word.start).join(""));
    const button = document.createElement("button");
    button.textContent = word.text;
    button.dataset.word = word.id;
    button.addEventListener("click", () => edit(() => {
      const chosen = label.misaligned_words;
      label.misaligned_words = chosen.includes(word.id)
        ? chosen.filter((id) => id !== word.id) : [...chosen, word.id].sort((a, b) => a - b);
    }));
    place.append(button);
    end = word.end;
  }
  place.append(characters.slice(end).join(""));
}

function render() {
  for (const button of get("words").querySelectorAll("button"))
    button.setAttribute("aria-pressed", label.misaligned_words.includes(Number(button.dataset.word)));
  for (const name of Object.keys(SCORES))
    for (const input of document.querySelectorAll(`input[name=${name}]`))
      input.checked = Number(input.value) === label.scores[name];
  get("nothing").checked = label.nothing_wrong;
  if (document.activeElement !== get("comment")) get("comment").value = label.comment;
  get("count").textContent = `${label.implausible_points.length} broken, ${label.misaligned_points.length} not as asked`;
  get("undo").disabled = !undone.length;
  get("back").disabled = at <= 0;
  get("forward").disabled = at < 0 || at >= mine.length - 1;
  const { progress, qualification } = me, done = progress.mine + progress.skipped;
  get("progress").textContent = assignment?.qualification
    ? `Practice ${Math.min(qualification.done + 1, qualification.needed)} of ${qualification.needed}`
    : `${done} done, ${progress.remaining} of ${progress.total_images} images open`;
  stage.draw();
}

function makeScores() {
  for (const [name, [low, high]] of Object.entries(SCORES)) {
    const set = document.createElement("fieldset"), legend = document.createElement("legend");
    legend.textContent = name[0].toUpperCase() + name.slice(1);
    const row = document.createElement("div");
    row.className = "scale";
    const end = (text) => { const span = document.createElement("span"); span.textContent = text; return span; };
    row.append(end(low));
    for (let value = 1; value <= 5; value++) {
      const choice = document.createElement("label"), input = document.createElement("input");
      Object.assign(input, { type: "radio", name, value });
      input.setAttribute("aria-label", `${value} of 5${value === 1 ? `, ${low}` : value === 5 ? `, ${high}` : ""}`);
      input.addEventListener("change", () => edit(() => { label.scores[name] = value; }));
      choice.append(input, String(value));
      row.append(choice);
    }
    row.append(end(high));
    set.append(legend, row);
    get("scores").append(set);
  }
}

function listen() {
  get("undo").addEventListener("click", undo);
  get("delete").addEventListener("click", () => stage.delete());
  get("save").addEventListener("click", save);
  get("back").addEventListener("click", () => go(-1));
  get("forward").addEventListener("click", () => go(1));
  get("help").addEventListener("click", () => get("help_dialog").showModal());
  get("skip").addEventListener("click", () => { get("reason").value = ""; get("skip_dialog").showModal(); });
  get("skip_dialog").addEventListener("close", () => {
    const reason = get("reason").value.trim();
    if (get("skip_dialog").returnValue === "skip" && reason) skip(reason);
  });
  get("nothing").addEventListener("change", () => edit(() => {
    label.nothing_wrong = get("nothing").checked;
    if (label.nothing_wrong) Object.assign(label, { implausible_points: [], misaligned_points: [], misaligned_words: [] });
    stage.chosen = null;
  }));
  let typing;
  const comment = () => {
    clearTimeout(typing);
    const text = get("comment").value;
    if (assignment && text !== label.comment) edit(() => { label.comment = text; });
  };
  get("comment").addEventListener("change", comment);
  get("comment").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(comment, 500); });
  for (const name of ["focus", "blur"]) get("frame").addEventListener(name, () => stage.draw());
  addEventListener("visibilitychange", tick);
  addEventListener("keydown", (event) => {
    if (!assignment || document.querySelector("dialog[open]")) return;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { get("comment").blur(); save(); return; }
    if (event.target.matches("textarea, input:not([type])")) return;
    if (event.key === "PageUp") go(-1);
    else if (event.key === "PageDown") go(1);
    else if (event.key === "?") get("help_dialog").showModal();
    else if (event.key.toLowerCase() === "u" || (event.key === "z" && event.ctrlKey)) undo();
    else return;
    event.preventDefault();
  });
}

async function begin() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token) {
    window.history.replaceState(null, "", location.pathname);
    await patiently(() => call("/api/session", { token }));
  }
  me = await patiently(() => call("/api/me"));
  if (me.role === "manager") { location.replace("/manager"); return; }
  makeScores();
  stage = new Stage(() => label, () => structuredClone(label), changed);
  guess = new Guess((marks) => {
    stage.chosen = stage.guess = null; // they are the rater's now
    edit(() => Object.assign(label, marks, { comment: label.comment }));
  });
  outbox = new Outbox(me.name, told, (id, error) => {
    say(error.message);
    if (id === assignment?.id && error.status === 409) next();
  });
  listen();
  const first = !localStorage.getItem("rahf-instructed");
  await next();
  if (first && assignment) get("help_dialog").showModal();
  localStorage.setItem("rahf-instructed", "yes");
}

begin().catch((error) => say(error.message));
