"use strict";
(() => {
  const PER_PAGE = 60;
  const data = JSON.parse(document.getElementById("data").textContent);
  const find = (selector) => document.querySelector(`.sheet ${selector}`);
  const [form, grid, dialog] = ["form", ".grid", "dialog"].map(find);
  const [sort, order, filter, chosen] =
    ["sort", "order", "filter", "chosen"].map((name) => form.elements[name]);
  let shown = [], page = 0, opened = 0;

  data.rows.forEach((row, index) => {
    row.place = index + 1;
    row.text = row.prompt.join("").toLowerCase();
  });

  function make(tag, className, text) {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  }

  // Every second piece of a prompt is a misaligned word.
  function addPrompt(parent, row) {
    parent.replaceChildren(...row.prompt.map((piece, index) => {
      if (index % 2 === 0) return document.createTextNode(piece);
      const mark = make("mark", "", piece);
      mark.title = "not shown in the image, as predicted";
      return mark;
    }));
    if (!row.text) parent.append(make("i", "", "no prompt"));
  }

  const written = (value) => value === undefined ? "–" : value.toFixed(3);

  function valueOf(row) {
    return sort.value === "rank" ? row.value : row.scores[sort.value.slice(6)];
  }

  function compare(a, b) {
    if (sort.value === "rank") return a.place - b.place;
    if (sort.value === "prompt") {
      return (a.text < b.text ? -1 : a.text > b.text ? 1 : 0) || a.place - b.place;
    }
    const [x, y] = [valueOf(a), valueOf(b)];
    if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
    return Number(order.value) * (x - y) || a.place - b.place;
  }

  function card(row, index) {
    const button = make("button", row.chosen ? "chosen" : "");
    button.type = "button";
    button.dataset.index = index;
    const image = make("img");
    Object.assign(image, {
      loading: "lazy", decoding: "async", width: row.size[0], height: row.size[1],
      alt: `number ${row.place}: ${row.prompt.join("")}`, src: encodeURI(row.file)
        .replaceAll("#", "%23").replaceAll("?", "%3F"),
    });
    const text = make("div", "text"), line = make("div", "line");
    const value = sort.value === "prompt" ? row.value : valueOf(row);
    line.append(make("b", "", written(value)), make("span", "place", `#${row.place}`));
    const said = make("div", "said");
    addPrompt(said, row);
    text.append(line, said);
    button.append(image, text);
    const item = make("li");
    item.append(button);
    return item;
  }

  function drawPage(focusFirst) {
    const pages = Math.max(1, Math.ceil(shown.length / PER_PAGE));
    page = Math.min(Math.max(page, 0), pages - 1);
    const start = page * PER_PAGE;
    grid.replaceChildren(
      ...shown.slice(start, start + PER_PAGE).map((row, i) => card(row, start + i)));
    find(".pages span").textContent = `page ${page + 1} of ${pages}`;
    find("[data-step='-1']").disabled = page === 0;
    find("[data-step='1']").disabled = page === pages - 1;
    find(".pages").hidden = pages === 1;
    if (focusFirst) {
      find(".controls").scrollIntoView();
      grid.querySelector("button")?.focus();
    }
  }

  function update() {
    const wanted = filter.value.trim().toLowerCase();
    shown = data.rows.filter((row) =>
      row.text.includes(wanted) && (!chosen.checked || row.chosen));
    shown.sort(compare);
    order.disabled = sort.value === "rank" || sort.value === "prompt";
    const number = shown.length.toLocaleString("en");
    find(".found").textContent = shown.length === data.rows.length
      ? `${number} images` : `${number} of ${data.rows.length.toLocaleString("en")} images`;
    page = 0;
    drawPage();
  }

  function open(index) {
    opened = Math.min(Math.max(index, 0), shown.length - 1);
    const row = shown[opened], image = dialog.querySelector("img");
    image.src = encodeURI(row.file).replaceAll("#", "%23").replaceAll("?", "%3F");
    image.alt = row.prompt.join("");
    addPrompt(dialog.querySelector(".prompt"), row);
    dialog.querySelector(".scores").replaceChildren(...data.names.map((name) => {
      const item = make("li"), track = make("span", "track"), fill = make("i", "fill");
      const score = row.scores[name];
      fill.style.width = `${100 * Math.min(Math.max(score ?? 0, 0), 1)}%`;
      track.append(fill);
      item.append(make("span", "", name.replaceAll("_", " ")),
        make("b", "", written(score)), track);
      return item;
    }));
    const lines = [`number ${row.place} by ${data.by}: ${written(row.value)}`];
    if (row.reason) lines.push(`${row.chosen ? "chosen" : "not chosen"}: ${row.reason}`);
    lines.push(row.id, row.image);
    dialog.querySelector(".more").textContent = lines.join("\n");
    dialog.querySelector("[data-turn='-1']").disabled = opened === 0;
    dialog.querySelector("[data-turn='1']").disabled = opened === shown.length - 1;
    if (!dialog.open) dialog.showModal();
  }

  function turn(step) {
    page += step;
    drawPage(true);
  }

  for (const [value, label] of [["rank", `rank (${data.by})`],
    ...data.names.map((name) => [`score:${name}`, name.replaceAll("_", " ")]),
    ["prompt", "prompt"]]) {
    sort.append(new Option(label, value));
  }
  find(".check").hidden = !data.rows.some((row) => row.chosen !== null);

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", update);
  grid.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) open(Number(button.dataset.index));
  });
  find(".pages").addEventListener("click", (event) => {
    if (event.target.dataset.step) turn(Number(event.target.dataset.step));
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog || event.target.closest(".close")) dialog.close();
    else if (event.target.dataset.turn) open(opened + Number(event.target.dataset.turn));
  });
  dialog.addEventListener("close", () => {
    const now = Math.floor(opened / PER_PAGE);
    if (now !== page) {
      page = now;
      drawPage();
    }
    grid.querySelector(`[data-index="${opened}"]`)?.focus();
  });
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const typing = ["INPUT", "SELECT"].includes(event.target.tagName);
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step && dialog.open) open(opened + step);
    else if (step && !typing) {
      const pages = Math.ceil(shown.length / PER_PAGE);
      if (page + step >= 0 && page + step < pages) turn(step);
    } else if (event.key === "/" && !typing && !dialog.open) {
      event.preventDefault();
      filter.focus();
    }
  });
  update();
})();
