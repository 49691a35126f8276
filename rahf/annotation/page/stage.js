// The image and its marks: pointer, wheel, pinch and keyboard -> points in natural pixels.

const SVG = "http://www.w3.org/2000/svg";
export const KINDS = ["implausible_points", "misaligned_points"];

export class Stage {
  // changed(): called after the points have changed; before(): before they do.
  constructor(label, before, changed) {
    Object.assign(this, { label, before, changed, chosen: null, cross: null, pointers: new Map() });
    this.stage = document.getElementById("stage");
    this.frame = document.getElementById("frame");
    this.picture = document.getElementById("picture");
    this.marks = document.getElementById("marks");
    this.loupe = document.getElementById("loupe");
    this.size = [1, 1];
    this.guess = null; // a model's marks, which are nobody's yet
    for (const name of ["pointerdown", "pointermove", "pointerup", "pointercancel"])
      this.frame.addEventListener(name, (event) => this[name](event));
    this.stage.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY / 400), event.clientX, event.clientY);
    }, { passive: false });
    this.frame.addEventListener("keydown", (event) => this.keydown(event));
    new ResizeObserver(() => this.fit()).observe(this.stage);
  }

  show(image, radius) {
    this.size = [image.width, image.height];
    this.radius = radius * image.height;
    this.chosen = null;
    this.cross = [image.width / 2, image.height / 2];
    this.picture.src = image.source || image.url;
    this.fit();
  }

  fit() {
    const [width, height] = this.size, box = this.stage;
    const scale = Math.min(box.clientWidth / width, box.clientHeight / height);
    this.frame.style.width = `${width * scale}px`;
    this.frame.style.height = `${height * scale}px`;
    this.view = { scale: 1, x: 0, y: 0 };
    this.marks.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.marks.setAttribute("preserveAspectRatio", "none");
    this.move();
  }

  move() {
    const { scale, x, y } = this.view;
    this.frame.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
    this.draw();
  }

  zoom(factor, clientX, clientY) {
    const old = this.view.scale, scale = Math.min(Math.max(old * factor, 1), 12);
    if (scale === 1) this.view = { scale, x: 0, y: 0 };
    else {
      const box = this.frame.getBoundingClientRect();
      this.view.x -= (clientX - box.left) * (scale / old - 1);
      this.view.y -= (clientY - box.top) * (scale / old - 1);
      this.view.scale = scale;
    }
    this.move();
  }

  // Keys that zoom, about the chosen mark or the cross; returns whether it is one.
  zoomKey(key) {
    const factor = { "+": 1.5, "=": 1.5, "-": 1 / 1.5, 0: 0 }[key];
    if (factor === undefined) return false;
    const [x, y] = this.onScreen(this.point());
    this.zoom(factor, x, y); // 0 ends at the least there is, the whole image
    this.reveal();
    return true;
  }

  // What the arrow keys move.
  point() { return this.chosen ? this.label()[this.chosen.kind][this.chosen.index] : this.cross; }

  onScreen([x, y]) {
    const box = this.frame.getBoundingClientRect(), [width, height] = this.size;
    return [box.left + x / width * box.width, box.top + y / height * box.height];
  }

  // Moves the enlarged image until the place that the keys are at is in view.
  reveal() {
    if (this.view.scale === 1) return;
    const box = this.stage.getBoundingClientRect(), [x, y] = this.onScreen(this.point()), margin = 24;
    const shift = (at, low, high) => Math.max(low + margin - at, 0) + Math.min(high - margin - at, 0);
    this.view.x += shift(x, box.left, box.right);
    this.view.y += shift(y, box.top, box.bottom);
    this.move();
  }

  // Screen to natural pixels, within the image.
  place(event) {
    const box = this.frame.getBoundingClientRect(), [width, height] = this.size;
    // Thousandths of a pixel survive every file format exactly; more digits need not.
    const inside = (value, most) => Math.round(Math.min(Math.max(value, 0), most) * 1000) / 1000;
    return [inside((event.clientX - box.left) / box.width * width, width),
      inside((event.clientY - box.top) / box.height * height, height)];
  }

  // The mark within reach, or null.
  find([x, y], reach) {
    let best = null, least = reach;
    for (const kind of KINDS) this.label()[kind].forEach((point, index) => {
      const distance = Math.hypot(point[0] - x, point[1] - y);
      if (distance <= least) { least = distance; best = { kind, index }; }
    });
    return best;
  }

  pointerdown(event) {
    if (event.button) return;
    this.frame.focus({ preventScroll: true });
    this.frame.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, event);
    if (this.pointers.size > 1) return this.giveUp(); // it is a pinch
    const at = this.place(event);
    const reach = 14 * this.size[0] / this.frame.getBoundingClientRect().width;
    const found = this.find(at, Math.max(reach, this.radius / 2));
    this.undone = this.before();
    if (found) this.chosen = found;
    else {
      const kind = document.querySelector("input[name=kind]:checked").value;
      if (this.label()[kind].push(at) > 200) { this.label()[kind].pop(); return; }
      this.chosen = { kind, index: this.label()[kind].length - 1 };
    }
    this.grip = { id: event.pointerId, moved: !found };
    this.draw();
    this.magnify(event);
  }

  pointermove(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    if (this.pointers.size === 2) {
      const other = [...this.pointers.values()].find((one) => one.pointerId !== event.pointerId);
      const span = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
      this.view.x += (event.clientX - before.clientX) / 2;
      this.view.y += (event.clientY - before.clientY) / 2;
      this.pointers.set(event.pointerId, event);
      this.zoom(span(event) / Math.max(span(before), 1), (event.clientX + other.clientX) / 2, (event.clientY + other.clientY) / 2);
      return;
    }
    if (!this.grip || this.grip.id !== event.pointerId) return;
    const first = this.grip.from ||= before;
    if (!this.grip.moved && Math.hypot(event.clientX - first.clientX, event.clientY - first.clientY) < 4) return;
    this.grip.moved = true;
    this.label()[this.chosen.kind][this.chosen.index] = this.place(event);
    this.draw();
    this.magnify(event);
  }

  pointerup(event) {
    this.pointers.delete(event.pointerId);
    this.loupe.hidden = true;
    if (!this.grip || this.grip.id !== event.pointerId) return;
    const { moved } = this.grip;
    this.grip = null;
    if (moved) this.changed(this.undone);
    this.draw();
  }

  pointercancel(event) { this.pointers.delete(event.pointerId); this.giveUp(); }

  giveUp() {
    this.loupe.hidden = true;
    if (!this.grip) return;
    this.grip = null;
    this.changed(this.undone, true);
  }

  // A finger hides what it points at: shows it above, enlarged.
  magnify(event) {
    if (event.pointerType === "mouse" || !this.picture.naturalWidth) return;
    const [x, y] = this.place(event), context = this.loupe.getContext("2d");
    const share = this.picture.naturalWidth / this.size[0], side = this.loupe.width;
    const part = side / 2.5 * this.size[0] / this.frame.getBoundingClientRect().width * share;
    context.fillRect(0, 0, side, side);
    context.drawImage(this.picture, x * share - part / 2, y * share - part / 2, part, part, 0, 0, side, side);
    context.strokeStyle = "#fff";
    context.strokeRect(side / 2 - 4, side / 2 - 4, 8, 8);
    const box = this.stage.getBoundingClientRect();
    const left = Math.min(Math.max(event.clientX - box.left - side / 2, 0), box.width - side);
    const above = event.clientY - box.top - side - 40;
    this.loupe.style.left = `${left}px`;
    this.loupe.style.top = `${above < 0 ? event.clientY - box.top + 50 : above}px`;
    this.loupe.hidden = false;
  }

  add(kind) {
    if (this.label()[kind].length >= 200) return;
    const undone = this.before();
    this.label()[kind].push([...this.cross]);
    this.chosen = null;
    this.changed(undone);
    this.draw();
  }

  delete() {
    if (!this.chosen) return;
    const undone = this.before();
    this.label()[this.chosen.kind].splice(this.chosen.index, 1);
    this.chosen = null;
    this.changed(undone);
    this.draw();
  }

  keydown(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const [width, height] = this.size, step = (event.shiftKey ? 0.002 : 0.02) * Math.max(width, height);
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const key = event.key.toLowerCase(), by = moves[event.key];
    if (by) {
      const undone = this.chosen && this.before();
      const point = this.point();
      const moved = (at, most) => Math.round(Math.min(Math.max(point[at] + by[at] * step, 0), most) * 1000) / 1000;
      [point[0], point[1]] = [moved(0, width), moved(1, height)];
      if (this.chosen) this.changed(undone);
      this.reveal();
    } else if (key === "i") this.add(KINDS[0]);
    else if (key === "m") this.add(KINDS[1]);
    else if (key === "n") {
      const all = KINDS.flatMap((kind) => this.label()[kind].map((_, index) => ({ kind, index })));
      const at = all.findIndex((one) => one.kind === this.chosen?.kind && one.index === this.chosen?.index);
      this.chosen = all[(at + 1) % all.length] || null;
    } else if (event.key === "Escape") this.chosen = null;
    else if (event.key === "Delete" || event.key === "Backspace") this.delete();
    else return;
    event.preventDefault();
    event.stopPropagation();
    this.draw();
  }

  draw() {
    const put = (name, fields) => {
      const made = document.createElementNS(SVG, name);
      for (const [key, value] of Object.entries(fields)) made.setAttribute(key, value);
      this.marks.append(made);
    };
    this.marks.replaceChildren();
    document.getElementById("delete").disabled = !this.chosen;
    const line = 2.5 * this.size[0] / Math.max(this.frame.getBoundingClientRect().width, 1);
    if (this.guess) for (const kind of KINDS) for (const [cx, cy] of this.guess[kind]) {
      put("circle", { class: "under", cx, cy, r: this.radius, "stroke-width": 2 * line });
      put("circle", { class: `guess ${kind}`, cx, cy, r: this.radius, "stroke-width": line, "stroke-dasharray": `${3 * line} ${3 * line}` });
    }
    for (const kind of KINDS) this.label()[kind].forEach(([cx, cy], index) => {
      const chosen = this.chosen?.kind === kind && this.chosen.index === index;
      put("circle", { class: "halo", cx, cy, r: this.radius + line, "stroke-width": line });
      put("circle", { class: `${kind}${chosen ? " chosen" : ""}`, cx, cy, r: this.radius, "stroke-width": line,
        "stroke-dasharray": kind === KINDS[1] ? `${4 * line} ${3 * line}` : "none" });
      put("circle", { class: kind, cx, cy, r: line, "stroke-width": line });
    });
    if (!this.cross || document.activeElement !== this.frame || !this.frame.matches(":focus-visible")) return;
    const [x, y] = this.cross, arm = 8 * line;
    for (const [name, width] of [["cross under", 2.2 * line], ["cross", line]]) {
      put("line", { class: name, x1: x - arm, y1: y, x2: x + arm, y2: y, "stroke-width": width });
      put("line", { class: name, x1: x, y1: y - arm, x2: x, y2: y + arm, "stroke-width": width });
    }
  }
}
