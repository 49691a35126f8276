// The rater's page: one image after the other, saved at every action.

import { Guess } from "./guess.js";
import { instruct, renderExample, showGuide } from "./guide.js";
import { ApiError, Outbox, call } from "./outbox.js";
import { askReason, makeScores, showProgress, showWords } from "./panel.js";
import { Queue, fetchImage, forget } from "./queue.js";
import { KINDS, Stage } from "./stage.js";
import { takeTurn } from "./tabs.js";

const IDLE = 60; // seconds without an action that do not count as work
const NEAR = 5; // finished images that stay at hand without a connection
const RETRY = 2000, AGAIN = 20000; // milliseconds
const get = (id) => document.getElementById(id);

let me, guide, outbox, queue, stage, guess, assignment = null, mine = [], at = -1;
let recent = [], hungry = false, busy = false, retired = false;
let label = emptyLabel(), undone = [], seconds = 0, acted = 0, typing;

function emptyLabel() {
  return { implausible_points: [], misaligned_points: [], misaligned_words: [], scores: {}, nothing_wrong: false, comment: "" };
}

function say(text) { get("message").textContent = text; }

function told(state) {
  const place = get("connection");
  place.classList.toggle("lost", state !== "saved" && state !== "saving");
  place.textContent = { saved: "Saved", saving: "Saving…" }[state] || state;
  if (state === "saved" && hungry) refill();
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
  takeComment();
  if (!undone.length) return;
  label = undone.pop();
  stage.chosen = null;
  get("comment").value = label.comment;
  draft();
}

// What stands in the comment becomes part of the label. The event "change" alone will not
// do: it comes when the focus leaves, and not every way to press a button moves it.
function takeComment() {
  clearTimeout(typing);
  const text = get("comment").value;
  if (assignment && !assignment.result && text !== label.comment) edit(() => { label.comment = text; });
}

function lacking() {
  const open = Object.keys(guide.scores).filter((name) => !label.scores[name]);
  if (open.length) return `Still to score: ${open.join(", ")}.`;
  if (!marked() && !label.nothing_wrong) return "Mark what is wrong, or say that nothing is.";
  return "";
}

async function save() {
  if (busy || assignment.result) return;
  takeComment();
  const missing = lacking();
  get("lacking").textContent = missing;
  if (missing) {
    const name = Object.keys(guide.scores).find((one) => !label.scores[one]);
    (name ? document.querySelector(`input[name=${name}]`) : get("nothing")).focus();
    return;
  }
  await finish("answer", "answered", { label: structuredClone(label) });
}

async function skip(reason) {
  if (!busy && !assignment.result) await finish("skip", "skipped", { reason });
}

async function finish(kind, state, fields) {
  takeComment();
  tick();
  outbox.add(assignment.id, kind, { ...fields, seconds });
  const { progress } = me, names = { answered: "mine", skipped: "skipped" }, before = assignment.state;
  if (names[before]) progress[names[before]]--;
  progress[names[state]]++;
  assignment.state = state;
  if (assignment.qualification) await showResult(assignment);
  await next();
}

// What was expected of a practice image; it needs the server's word.
async function showResult(given) {
  get("work").inert = busy = true;
  try {
    await outbox.empty();
    const found = (await patiently(() => call(`/api/assignments/${given.id}`))).assignment;
    given.result = found.result;
    me = await patiently(() => call("/api/me"));
    if (!given.result) return;
    get("result").textContent = given.result.right ? "Right" : "Not quite";
    get("result_text").textContent = given.result.right
      ? "Your answer meets the known one." : "Your answer differs too much from the known one.";
    const picture = { ...given, ...given.image, source: given.image.source || given.image.url };
    get("expected").replaceChildren(
      renderExample({ ...picture, title: "Your answer", label: found.draft ? label : emptyLabel() }),
      renderExample({ ...picture, title: "The known answer", label: given.result.expected }));
    get("result_dialog").showModal();
    await new Promise((closed) => get("result_dialog").addEventListener("close", closed, { once: true }));
  } finally { get("work").inert = busy = false; }
}

// Puts the present image away: finished ones stay at hand, others come again.
function leave() {
  if (!assignment) return;
  takeComment();
  tick();
  Object.assign(assignment, { draft: structuredClone(label), seconds });
  if (assignment.state === "open") queue.putBack(assignment);
  else if (assignment.state === "gone") {
    mine = mine.filter((one) => one.id !== assignment.id);
    forget(assignment);
  } else recent.push(assignment);
  while (recent.length > NEAR) forget(recent.shift());
  assignment = null;
}

// Goes on to the next image.
async function next() {
  if (busy || retired) return;
  get("work").inert = busy = true;
  try {
    leave();
    const reason = await patiently(async () => {
      for (;;) {
        const found = await queue.next();
        if (found !== "enough") return found;
        await outbox.empty(); // the server must hear of what is done
      }
    });
    if (reason === null) show(queue.take());
    else {
      await outbox.empty();
      if (reason === "wait") setTimeout(next, AGAIN);
      stop(reason === "wait"
        ? "Others are at work on the last images. If they leave one, it will appear here."
        : "That was the last image. Thank you!");
    }
  } catch (error) {
    stop(error.message);
  } finally { get("work").inert = busy = false; }
  refill();
}

function stop(text) {
  get("work").hidden = true;
  at = mine.length; // behind the last image: Back leads to it
  get("back").disabled = !at;
  get("forward").disabled = true;
  if (outbox) showProgress(me, me.qualification.done < me.qualification.needed);
  say(text);
}

// Fetches images ahead, and how far the work is, while this one is worked on.
async function refill() {
  if (!assignment || retired) return;
  hungry = false;
  try {
    const waiting = outbox.waiting.length, reason = await queue.fill();
    hungry = reason === "enough" && waiting > 0; // it counts those as open still
    if (!outbox.waiting.length) me = await call("/api/me");
    render();
  } catch (error) {
    if (error instanceof ApiError && error.status === 403) queue.clear(); // paused: after this image
    hungry = true;
  }
}

async function patiently(ask) {
  for (;;) {
    try { return await ask(); } catch (error) {
      if (error instanceof ApiError && ![429, 500, 502, 503, 504].includes(error.status)) throw error;
      get("work").hidden = true;
      say("No connection. The next image comes when it is back; what you did is kept in this browser.");
      await new Promise((go) => setTimeout(go, RETRY));
    }
  }
}

async function go(step) {
  const there = mine[at + step];
  if (!there || busy) return;
  get("work").inert = busy = true;
  try {
    const near = recent.findIndex((one) => one.id === there.id);
    const given = queue.take(there.id) || (near < 0
      ? await fetchImage((await call(`/api/assignments/${there.id}`)).assignment) : recent.splice(near, 1)[0]);
    leave();
    show(given);
  } catch (error) {
    say(error instanceof ApiError ? error.message : "That image needs the connection.");
  } finally { get("work").inert = busy = false; }
}

function show(given) {
  if (retired) return;
  assignment = given;
  if (!mine.some((one) => one.id === given.id)) mine.push({ id: given.id });
  at = mine.findIndex((one) => one.id === given.id);
  const waiting = outbox.latest(given.id);
  const known = (waiting || { label: given.draft }).label || {};
  label = { ...emptyLabel(), ...structuredClone(known) };
  for (const [name, value] of Object.entries(label)) if (value === null) label[name] = emptyLabel()[name];
  undone = [];
  seconds = Math.max(given.seconds, waiting?.seconds || 0); // of earlier visits
  acted = performance.now() / 1000;
  get("comment").value = label.comment;
  say(given.image.source === null ? "This image cannot be shown. Please skip it." : "");
  get("lacking").textContent = "";
  showPractice(given);
  get("work").hidden = get("work").inert = busy = false;
  showWords(given, (id) => edit(() => {
    const chosen = label.misaligned_words;
    label.misaligned_words = chosen.includes(id) ? chosen.filter((one) => one !== id) : [...chosen, id].sort((x, y) => x - y);
  }));
  guess.show(given.guess);
  stage.guess = given.result?.expected || given.guess;
  stage.show(given.image, given.radius);
  render();
  get("frame").focus({ preventScroll: true });
}

// The rater looks at this page again, and may have gone on in another browser meanwhile:
// then what was said there is shown. It has been kept, as the later one.
async function comeBack() {
  if (document.hidden || !assignment || busy) return;
  takeComment();
  if (outbox.waiting.length) return; // what is here is newer
  const here = assignment, before = canonical(label);
  try {
    const there = (await call(`/api/assignments/${here.id}`)).assignment;
    if (assignment !== here || busy || outbox.waiting.length || canonical(label) !== before) return;
    const finished = there.state !== here.state && ["answered", "skipped"].includes(there.state);
    if (!finished && canonical(there.draft || emptyLabel()) === before) return;
    there.image.source = here.image.source;
    show(there);
    say("You went on with this image in another browser. This is what you said there.");
  } catch { /* without a connection, what is here counts */ }
}

// Text that is the same for the same label, whatever the order of its fields.
function canonical(value) {
  const sorted = (key, one) => (one && typeof one === "object" && !Array.isArray(one)
    ? Object.fromEntries(Object.entries(one).sort()) : one);
  return JSON.stringify(value, sorted);
}

function showPractice({ qualification, result }) {
  get("practice").hidden = !qualification;
  get("practice").textContent = !result
    ? "A practice image: its answer is known, and you will see it after yours."
    : `A practice image, ${result.right ? "met" : "not met"}. The known marks are dashed in grey; its answer cannot be changed.`;
  for (const id of ["frame", "words", "controls"]) get(id).inert = Boolean(result);
}

function render() {
  for (const button of get("words").querySelectorAll("button"))
    button.setAttribute("aria-pressed", label.misaligned_words.includes(Number(button.dataset.word)));
  for (const name of Object.keys(guide.scores))
    for (const input of document.querySelectorAll(`input[name=${name}]`))
      input.checked = Number(input.value) === label.scores[name];
  get("nothing").checked = label.nothing_wrong;
  if (document.activeElement !== get("comment")) get("comment").value = label.comment;
  get("count").textContent = `${label.implausible_points.length} broken, ${label.misaligned_points.length} not as asked`;
  get("undo").disabled = !undone.length;
  get("back").disabled = at <= 0;
  get("forward").disabled = at < 0 || at >= mine.length - 1;
  showProgress(me, assignment?.qualification);
  stage.draw();
}

function listen() {
  get("undo").addEventListener("click", undo);
  get("delete").addEventListener("click", () => { stage.delete(); get("frame").focus({ preventScroll: true }); });
  get("save").addEventListener("click", save);
  get("back").addEventListener("click", () => go(-1));
  get("forward").addEventListener("click", () => go(1));
  get("help").addEventListener("click", () => get("help_dialog").showModal());
  askReason(skip);
  get("nothing").addEventListener("change", () => edit(() => {
    label.nothing_wrong = get("nothing").checked;
    if (label.nothing_wrong) Object.assign(label, { implausible_points: [], misaligned_points: [], misaligned_words: [] });
    stage.chosen = null;
  }));
  get("comment").addEventListener("change", takeComment);
  get("comment").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(takeComment, 500); });
  for (const name of ["focus", "blur"]) get("frame").addEventListener(name, () => stage.draw());
  addEventListener("visibilitychange", () => { tick(); comeBack(); });
  addEventListener("pagehide", () => { takeComment(); queue.release(); });
  addEventListener("keydown", (event) => {
    if (!assignment || busy || document.querySelector("dialog[open]")) return;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { get("comment").blur(); save(); return; }
    if (event.target.matches("textarea, input:not([type])")) return;
    if (event.key === "PageUp") go(-1);
    else if (event.key === "PageDown") go(1);
    else if (event.key === "?") get("help_dialog").showModal();
    else if (event.key.toLowerCase() === "u" || (event.key === "z" && event.ctrlKey)) undo();
    else if (event.ctrlKey || event.metaKey || event.altKey || !stage.zoomKey(event.key)) return;
    event.preventDefault();
  });
}

function askToContinue(text) {
  stop(text);
  get("elsewhere").hidden = false;
  return new Promise((go) => get("here").addEventListener("click", go, { once: true }));
}

async function begin() {
  const fragment = new URLSearchParams(location.hash.slice(1)), token = fragment.get("token");
  window.history.replaceState(null, "", location.pathname);
  if (token) await patiently(() => call("/api/session", { token }));
  me = await patiently(() => call("/api/me"));
  if (me.role === "manager") { location.replace("/manager"); return; }
  await takeTurn(me.name,
    () => fragment.has("here") || askToContinue("Your work is open in another tab."),
    async () => {
      retired = busy = true;
      queue?.clear(); // they are the other tab's now
      assignment = null;
      await askToContinue("You went on in another tab.");
      location.hash = "here";
      location.reload();
    });
  get("elsewhere").hidden = true;
  guide = await patiently(() => call("/api/instructions"));
  makeScores(guide, (name, value) => edit(() => { label.scores[name] = value; }));
  showGuide(guide);
  stage = new Stage(() => label, () => structuredClone(label), changed);
  guess = new Guess((marks) => {
    stage.chosen = stage.guess = null; // they are the rater's now
    edit(() => Object.assign(label, marks, { comment: label.comment }));
  });
  outbox = new Outbox(me.name, told, (id, error) => {
    const present = id === assignment?.id && error.code === "lease_expired";
    if (present) assignment.state = "gone";
    if (present) next().then(() => say(error.message));
    else say(error.message);
  });
  queue = new Queue(me.name, () => [assignment?.id, ...outbox.waiting.map((one) => one.assignment)].filter(Boolean));
  listen();
  await instruct(me.name, guide.markdown);
  await outbox.empty();
  const known = (await patiently(() => call("/api/assignments"))).assignments;
  mine = known.filter((one) => one.state !== "open");
  await next();
}

begin().catch((error) => say(error.message));
