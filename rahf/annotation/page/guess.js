// What a model thinks, if raters are to see it: beside their own marks, never among them.
// It becomes theirs only when they take it over.

import { KINDS } from "./stage.js";

const get = (id) => document.getElementById(id);

export class Guess {
  // take(guess): called when the rater starts from it.
  constructor(take) {
    this.guess = null;
    get("take_guess").addEventListener("click", () => { if (this.guess) take(structuredClone(this.guess)); });
  }

  show(guess) {
    this.guess = guess;
    get("guess").hidden = !guess;
    for (const button of get("words").querySelectorAll("button"))
      button.classList.toggle("guessed", Boolean(guess?.misaligned_words.includes(Number(button.dataset.word))));
    for (const input of get("scores").querySelectorAll("input")) {
      const same = guess?.scores[input.name] === Number(input.value);
      input.parentElement.classList.toggle("guessed", same);
      if (same) input.parentElement.title = "The model's guess";
      else input.parentElement.removeAttribute("title");
    }
    if (!guess) return;
    const words = guess.misaligned_words.map((id) => get("words").querySelector(`[data-word="${id}"]`)?.textContent);
    const [broken, asked] = KINDS.map((kind) => guess[kind].length);
    get("guess_text").textContent = `${broken} broken, ${asked} not as asked; `
      + `words: ${words.length ? words.join(", ") : "none"}; `
      + Object.entries(guess.scores).map(([name, score]) => `${name} ${score}`).join(", ");
  }
}
