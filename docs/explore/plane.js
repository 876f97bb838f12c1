// The plane of all measured points; each is a button that opens its settings.
(() => {
  const data = window.PLANE;
  const view = document.getElementById("plane-view");
  const said = document.getElementById("plane-said");
  const kinds = [...new Set(data.points.map((point) => point.kind))];
  const hidden = new Set();
  const x = (bits) => 46 + (bits / 4.1) * 584;
  const y = (db) => 340 - (db / 6.8) * 325;
  const line = (points, style) =>
    `<polyline points="${points.map(([bits, db]) => `${x(bits)},${y(db)}`).join(" ")}" class="${style}"/>`;
  const shapes = [
    (r) => `<circle r="${r}"/>`,
    (r) => `<rect x="${-r}" y="${-r}" width="${2 * r}" height="${2 * r}"/>`,
    (r) => `<path d="M0 ${-r * 1.4}L${r * 1.4} 0L0 ${r * 1.4}L${-r * 1.4} 0Z"/>`,
    (r) => `<path d="M0 ${-r * 1.3}L${r * 1.3} ${r}L${-r * 1.3} ${r}Z"/>`,
    (r) => `<path d="M0 ${-r * 1.5}L${r * 0.5} ${-r * 0.4}L${r * 1.5} 0L${r * 0.5} ${r * 0.4}L0 ${r * 1.5}L${-r * 0.5} ${r * 0.4}L${-r * 1.5} 0L${-r * 0.5} ${-r * 0.4}Z"/>`,
    (r) => `<path d="M${-r} ${-r}L${r} ${r}M${-r} ${r}L${r} ${-r}" class="cross"/>`,
  ];

  function draw() {
    let marks = "";
    for (let bits = 0; bits <= 4; bits += 1) {
      marks += `<text x="${x(bits)}" y="358" text-anchor="middle">${bits}</text>` + line([[bits, 0], [bits, 6.6]], "grid");
    }
    for (let db = 0; db <= 6; db += 1) {
      marks += `<text x="38" y="${y(db) + 4}" text-anchor="end">${db}</text>` + line([[0, db], [4.1, db]], "grid");
    }
    marks += `<text x="338" y="376" text-anchor="middle">bits per component</text>`;
    marks += `<text transform="translate(12 180) rotate(-90)" text-anchor="middle">dB above the bound</text>`;
    marks += line([[0, 0], [4.1, 0]], "bound") + line(data.limits.converse, "converse");
    marks += line(data.limits["random codebook"], "random");
    data.points.forEach((point, i) => {
      const kind = kinds.indexOf(point.kind);
      if (hidden.has(point.kind)) return;
      const name = `${point.kind}: ${point.bits} bits, ${point.db} dB`;
      marks += `<g class="point kind-${kind}" tabindex="0" role="button" data-point="${i}" aria-label="${name}" ` +
        `transform="translate(${x(point.bits)} ${y(point.db)})"><circle r="11" class="target"/>${shapes[kind](5)}</g>`;
    });
    view.innerHTML = marks;
  }

  function open(target) {
    const mark = target.closest("[data-point]");
    if (!mark) return;
    view.querySelectorAll(".chosen").forEach((old) => old.classList.remove("chosen"));
    mark.classList.add("chosen");
    const point = data.points[+mark.dataset.point];
    const range = point.low === null ? "closed form" : `95 % [${point.low}, ${point.high}], ${point.seeds} seeds`;
    said.textContent = "";
    const add = (tag, text) => { const e = document.createElement(tag); e.textContent = text; said.append(e); return e; };
    add("strong", `${point.bits} bits per component, ${point.db} dB above the bound`);
    add("p", `${point.kind}; ${range}`);
    add("pre", `${point.code}\n\n${data.command} "${point.kind}"`);
  }

  kinds.forEach((kind, i) => {
    const label = document.createElement("label");
    const box = document.createElement("input");
    box.type = "checkbox";
    box.checked = true;
    box.addEventListener("change", () => { box.checked ? hidden.delete(kind) : hidden.add(kind); draw(); });
    label.className = `kind-${i}`;
    label.append(box, ` ${kind}`);
    document.getElementById("plane-kinds").append(label, " ");
  });
  view.addEventListener("click", (event) => open(event.target));
  view.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); open(event.target); }
  });
  draw();
})();
