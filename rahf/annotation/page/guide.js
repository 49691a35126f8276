// Instructions, examples, and what was expected of a practice image. All text comes as
// text nodes: nothing in it can become markup.

import { KINDS } from "./stage.js";

const SVG = "http://www.w3.org/2000/svg";
const get = (id) => document.getElementById(id);

export function make(name, fields = {}, ...content) {
  const made = document.createElement(name);
  Object.assign(made, fields);
  made.append(...content);
  return made;
}

// Text with **bold** parts -> nodes.
function inline(text) {
  return text.split("**").map((part, index) => (index % 2 ? make("b", {}, part) : part));
}

// Headings (#), lists (- and 1.), **bold**; everything else is a paragraph.
export function renderText(text) {
  const place = document.createDocumentFragment();
  for (const block of text.replaceAll("\r\n", "\n").split(/\n\s*\n/)) {
    let list = null, paragraph = null;
    for (const line of block.split("\n").filter((one) => one.trim())) {
      const heading = line.match(/^#+\s+(.*)/), item = line.match(/^\s*(-|\d+\.)\s+(.*)/);
      if (heading) {
        place.append(make("h2", {}, ...inline(heading[1])));
        list = paragraph = null;
      } else if (item) {
        const kind = item[1] === "-" ? "ul" : "ol";
        if (list?.localName !== kind) place.append(list = make(kind));
        list.append(make("li", {}, ...inline(item[2])));
        paragraph = null;
      } else if (list) list.lastChild.append(" ", ...inline(line.trim()));
      else if (paragraph) paragraph.append(" ", ...inline(line.trim()));
      else place.append(paragraph = make("p", {}, ...inline(line.trim())));
    }
  }
  return place;
}

// The prompt, with the words that are not shown struck through.
export function renderPrompt(prompt, words, chosen) {
  const characters = Array.from(prompt), place = make("p", { className: "prompt" });
  let end = 0;
  for (const word of words) {
    place.append(characters.slice(end, word.start).join(""));
    place.append(chosen.includes(word.id) ? make("del", {}, word.text) : word.text);
    end = word.end;
  }
  place.append(characters.slice(end).join(""));
  return place;
}

// An image with its marks: {source, width, height, radius, prompt, words, label, note, title}.
export function renderExample(one) {
  const marks = document.createElementNS(SVG, "svg"), line = one.width / 100;
  marks.setAttribute("viewBox", `0 0 ${one.width} ${one.height}`);
  for (const kind of KINDS) for (const [cx, cy] of one.label[kind]) {
    const radius = one.radius * one.height;
    for (const [name, r] of [["halo", radius + line], [kind, radius]]) {
      const circle = document.createElementNS(SVG, "circle");
      const dashes = name === KINDS[1] ? `${3 * line} ${2 * line}` : "none";
      for (const [key, value] of Object.entries({ class: name, cx, cy, r, "stroke-width": line, "stroke-dasharray": dashes }))
        circle.setAttribute(key, value);
      marks.append(circle);
    }
  }
  const [broken, asked] = KINDS.map((kind) => one.label[kind].length);
  const alt = `${broken} marks for broken, ${asked} for not as asked`;
  const picture = make("img", { src: one.source, alt, width: one.width, height: one.height });
  const scores = Object.entries(one.label.scores).map(([name, value]) => `${name} ${value}`).join(", ");
  const caption = make("figcaption", {}, renderPrompt(one.prompt, one.words, one.label.misaligned_words));
  if (one.note) caption.append(make("p", {}, one.note));
  if (one.label.nothing_wrong) caption.append(make("p", {}, "Nothing is wrong."));
  if (scores) caption.append(make("p", { className: "soft" }, `Scores: ${scores}`));
  const title = one.title ? [make("h3", {}, one.title)] : [];
  return make("figure", {}, ...title, make("div", { className: "marked" }, picture, marks), caption);
}

// What the ends of each score mean, as rows of a table.
export function renderScale(scores, [low, high]) {
  return Object.entries(scores).map(([name, ends]) => make("tr", {},
    make("th", { scope: "row" }, name[0].toUpperCase() + name.slice(1)),
    make("td", {}, `${low}: ${ends.low}`), make("td", {}, `${high}: ${ends.high}`)));
}

// Fills the dialog of instructions with what the server has.
export function showGuide({ markdown, scores, scale, examples, radius }) {
  get("instructions").append(renderText(markdown));
  get("ends").append(...renderScale(scores, scale));
  for (const one of examples) get("examples").append(renderExample({ ...one, source: one.url, radius }));
}

// Shows the instructions before a rater's first image, and again when they have changed.
export async function instruct(rater, text) {
  const key = `rahf-instructed/${rater}`;
  let known = null;
  try { known = localStorage.getItem(key); } catch { /* then every time */ }
  if (known !== text) {
    get("help_dialog").showModal();
    await new Promise((closed) => get("help_dialog").addEventListener("close", closed, { once: true }));
    try { localStorage.setItem(key, text); } catch { /* as above */ }
  }
  get("begin").textContent = "Go on"; // from now on it is help during work
}
