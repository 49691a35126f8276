"use strict";
(() => {
  // Sorting and filtering, on pages that have the form.
  const form = document.querySelector("form.sorting");
  const all = document.querySelector(".all");
  if (form && form.elements.by) {
    const cards = [...all.children].map((card) => ({
      card,
      text: card.dataset.text,
      values: JSON.parse(card.dataset.values),
    }));
    const { by, of, text } = form.elements;
    const found = form.querySelector(".found");
    const names = [...new Set(cards.flatMap(({ values }) => Object.keys(values)))];
    const add = (select, value, label) => {
      const option = document.createElement("option");
      option.value = value;
      option.textContent = label;
      select.append(option);
    };
    for (const name of names) {
      const shown = name.replaceAll("_", " ");
      add(by, JSON.stringify([name, 1]), `${shown}, lowest first`);
      add(by, JSON.stringify([name, -1]), `${shown}, highest first`);
      const counts = name === "misaligned words";
      for (const [sign, word] of counts ? [] : [[-1, "below"], [1, "from"]]) {
        add(of, JSON.stringify([name, sign]), `${shown} ${word} .50`);
      }
      if (counts) add(of, JSON.stringify([name, 0]), "misaligned words");
    }
    const fits = (values) => {
      if (!of.value) return true;
      const [name, sign] = JSON.parse(of.value);
      if (!(name in values)) return false;
      if (!sign) return values[name] > 0;
      return sign < 0 ? values[name] < 0.5 : values[name] >= 0.5;
    };
    const update = () => {
      const wanted = text.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const each of cards) {
        const is = fits(each.values) && wanted.every((word) => each.text.includes(word));
        each.card.hidden = !is;
        shown += is;
      }
      const order = [...cards];
      if (by.value) {
        const [name, sign] = JSON.parse(by.value);
        const key = ({ values }) => (name in values ? sign * values[name] : Infinity);
        order.sort((a, b) => key(a) - key(b));
      }
      all.append(...order.map(({ card }) => card));
      found.textContent = `${shown} of ${cards.length} images`;
    };
    form.addEventListener("input", update);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.hidden = false;
    update();
  }

  // A click on a picture, a tap or Enter enlarges it.
  const dialog = document.createElement("dialog");
  dialog.className = "large";
  const [large, caption] = ["img", "p"].map((tag) => document.createElement(tag));
  const button = (label, text, act) => {
    const element = document.createElement("button");
    element.type = "button";
    element.setAttribute("aria-label", label);
    element.textContent = text;
    element.addEventListener("click", act);
    return element;
  };
  let series = [], place = 0;
  const turn = (by) => {
    place = (place + by + series.length) % series.length;
    const image = series[place];
    large.src = image.src;
    large.alt = image.alt;
    large.width = image.width;
    large.height = image.height;
    caption.textContent = image.alt;
  };
  const bar = document.createElement("div");
  bar.className = "turn";
  bar.append(
    button("previous picture", "‹", () => turn(-1)),
    caption,
    button("next picture", "›", () => turn(1)),
    button("close", "×", () => dialog.close()),
  );
  dialog.append(large, bar);
  document.body.append(dialog);
  large.addEventListener("click", () => dialog.close());
  dialog.addEventListener("keydown", ({ key }) => {
    if (key === "ArrowLeft") turn(-1);
    if (key === "ArrowRight") turn(1);
  });
  for (const card of document.querySelectorAll(".card")) {
    const images = [...card.querySelectorAll("figure img")];
    images.forEach((image, number) => {
      const open = () => {
        [series, place] = [images, number];
        turn(0);
        dialog.showModal();
      };
      image.tabIndex = 0;
      image.setAttribute("role", "button");
      image.addEventListener("click", open);
      image.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") {
          event.preventDefault();
          open();
        }
      });
    });
  }
})();
