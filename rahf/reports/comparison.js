"use strict";
(() => {
  const data = JSON.parse(document.getElementById("apart").textContent);
  const form = document.querySelector(".sorting");
  const all = document.querySelector(".all");
  const cards = [...all.children];
  const { one, other, of } = form.elements;

  // Each target's largest difference on the page counts 1, so that they weigh the same.
  const largest = {};
  for (const pairs of data.apart) {
    for (const found of pairs) {
      for (const [name, value] of Object.entries(found)) {
        largest[name] = Math.max(largest[name] || 0, value);
      }
    }
  }

  function apart(card, pair) {
    const found = data.apart[Number(card.dataset.number)][pair];
    if (of.value) return found[of.value] ?? -1;
    return Object.entries(found).reduce(
      (sum, [name, value]) => sum + value / (largest[name] || 1), 0);
  }

  function sort() {
    const [a, b] = [Number(one.value), Number(other.value)];
    const pair = data.pairs.findIndex(
      ([x, y]) => x === Math.min(a, b) && y === Math.max(a, b));
    if (pair < 0) return;  // a model and itself
    all.append(...[...cards].sort((x, y) => apart(y, pair) - apart(x, pair)));
  }

  form.addEventListener("change", sort);
  form.hidden = false;
  sort();
})();
