// The panel beside the image: words of the prompt, scores, progress, why it is skipped.

import { make } from "./guide.js";

const get = (id) => document.getElementById(id);

// The prompt as buttons, one a word; press(id): called when one is pressed.
export function showWords({ prompt, words }, press) {
  const characters = Array.from(prompt), place = get("words"); // offsets are in code points
  place.replaceChildren();
  let end = 0;
  for (const word of words) {
    place.append(characters.slice(end, word.start).join(""));
    const button = make("button", { textContent: word.text });
    button.dataset.word = word.id;
    button.addEventListener("click", () => press(word.id));
    place.append(button);
    end = word.end;
  }
  place.append(characters.slice(end).join(""));
}

// The scores with what their ends mean; choose(name, value): called when one is given.
export function makeScores({ scores, scale: [least, most] }, choose) {
  for (const [name, { low, high }] of Object.entries(scores)) {
    const row = make("div", { className: "scale" }, make("span", {}, low));
    for (let value = least; value <= most; value++) {
      const input = make("input", { type: "radio", name, value });
      const meaning = { [least]: `, ${low}`, [most]: `, ${high}` }[value] || "";
      input.setAttribute("aria-label", `${value} of ${most}${meaning}`);
      input.addEventListener("change", () => choose(name, value));
      row.append(make("label", {}, input, String(value)));
    }
    row.append(make("span", {}, high));
    get("scores").append(make("fieldset", {}, make("legend", {}, name[0].toUpperCase() + name.slice(1)), row));
  }
}

// How far the rater is, and how fast.
export function showProgress({ progress, qualification, pace }, practising) {
  const done = progress.mine + progress.skipped;
  const speed = pace.median_seconds === null || pace.per_hour === null ? ""
    : ` · ${Math.round(pace.median_seconds)} s an image, ${Math.round(pace.per_hour)} an hour`;
  get("progress").textContent = practising
    ? `Practice: ${qualification.done} of ${qualification.needed} done, ${qualification.passed} met`
    : `${done} done${progress.at_most ? `, at most ${progress.at_most} images open` : ""}${speed}`;
}

// The button that skips; skip(reason): called once there is a reason.
export function askReason(skip) {
  const dialog = get("skip_dialog"), reason = get("reason"), lacking = get("reason_lacking");
  get("skip").addEventListener("click", () => {
    reason.value = lacking.textContent = dialog.returnValue = "";
    dialog.showModal();
  });
  dialog.addEventListener("submit", (event) => {
    if (event.submitter.value !== "skip" || reason.value.trim()) return;
    event.preventDefault();
    lacking.textContent = "Please say why, in a word or two; an image is not skipped without a reason.";
    reason.focus();
  });
  dialog.addEventListener("close", () => { if (dialog.returnValue === "skip") skip(reason.value.trim()); });
}
