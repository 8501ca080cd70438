"use strict";
// Sorts, filters and enlarges the tiles of a sheet. Without this script the page shows all of them in order.
(() => {
  const root = document.documentElement;
  const form = document.querySelector(".controls");
  const sheet = document.querySelector(".sheet");
  const closer = document.querySelector("#closer");
  const tiles = [...sheet.children];
  const orders = {
    order: (a, b) => a.dataset.order - b.dataset.order,
    most: (a, b) => b.dataset.uncertainty - a.dataset.uncertainty,
    least: (a, b) => a.dataset.uncertainty - b.dataset.uncertainty,
    far: (a, b) => b.dataset.distance - a.dataset.distance,
    name: (a, b) => a.dataset.name.localeCompare(b.dataset.name, "en", {numeric: true}),
  };
  let open = null;

  const shown = () => [...sheet.children].filter((tile) => !tile.hidden);
  const stack = (tile) => tile.querySelector(".stack");

  function apply() {
    const {sort, found, kind, verdict, overlay, opacity, model, heat} = form.elements;
    tiles.sort(orders[sort.value]);
    // A tile that is moved loses the keyboard's focus.
    if (tiles.some((tile, place) => sheet.children[place] !== tile)) sheet.append(...tiles);
    for (const tile of tiles) {
      const hasClass = found.value === "" || tile.dataset.classes.split(" ").includes(found.value);
      const ofKind = (kind?.value ?? "") === "" || kind.value === tile.dataset.kind;
      tile.hidden = !hasClass || !ofKind || ((verdict?.value ?? "any") !== "any" && verdict.value !== (tile.dataset.verdict || "none"));
    }
    root.toggleAttribute("data-bare", !overlay.checked);
    root.toggleAttribute("data-heat", heat?.checked ?? false);
    root.toggleAttribute("data-after", model !== undefined && model.value === "after");
    root.style.setProperty("--opacity", opacity.value / 100);
    form.querySelector("output").textContent = `${shown().length} of ${tiles.length} images`;
    history.replaceState(null, "", "#" + new URLSearchParams(new FormData(form)));
  }

  function restore() {
    const state = new URLSearchParams(location.hash.slice(1));
    if (!state.has("sort")) return;
    form.elements.overlay.checked = state.has("overlay");
    if (form.elements.heat) form.elements.heat.checked = state.has("heat");
    for (const name of ["sort", "found", "kind", "verdict", "opacity", "model"]) {
      const field = form.elements[name];
      if (field === undefined || !state.has(name)) continue;
      const before = field.value;
      field.value = state.get(name);
      if (field.value === "" && state.get(name) !== "") field.value = before; // the link was made on another page
    }
  }

  function look(tile) {
    open = tile;
    closer.querySelector("h2").textContent = tile.dataset.name;
    const bare = stack(tile).cloneNode(true);
    const marked = stack(tile).cloneNode(true);
    for (const layer of bare.querySelectorAll(".layer")) layer.remove();
    const pictures = bare.querySelector("img") ? [bare, marked] : [marked];
    for (const picture of pictures) for (const name of ["tabindex", "role", "aria-label", "aria-haspopup"]) picture.removeAttribute(name);
    const panels = [...tile.querySelectorAll(".panel")].map((panel) => panel.cloneNode(true));
    closer.querySelector(".pair").replaceChildren(...pictures, ...panels);
    closer.dataset.order = tile.dataset.order;
    closer.querySelector(".about").replaceChildren(...["table", ".uri", ".gone"].flatMap((part) => [...tile.querySelectorAll(part)]).map((part) => part.cloneNode(true)));
    if (!closer.open) closer.showModal();
    closer.dispatchEvent(new Event("look"));
  }

  function step(by) {
    const visible = shown();
    const from = open && closer.open ? open : document.activeElement?.closest(".sheet > li");
    const index = visible.indexOf(from);
    const next = visible[index < 0 ? 0 : index + by];
    if (next === undefined) return;
    if (closer.open) look(next);
    else stack(next).focus();
  }

  const keys = {
    j: () => step(1), ArrowRight: () => step(1), k: () => step(-1), ArrowLeft: () => step(-1),
    o: () => form.elements.overlay.click(),
    h: () => form.elements.heat?.click(),
    m: () => form.elements.model && [...form.elements.model].find((choice) => !choice.checked).click(),
    "+": () => fade(10), "-": () => fade(-10),
  };

  function fade(by) {
    form.elements.opacity.value = Number(form.elements.opacity.value) + by;
    apply();
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("select, textarea") || (event.target.matches("input") && event.key.startsWith("Arrow"))) return;
    if (keys[event.key]) {
      keys[event.key]();
      event.preventDefault();
    } else if (["Enter", " "].includes(event.key) && event.target.matches(".sheet .stack")) {
      look(event.target.closest("li"));
      event.preventDefault();
    }
  });
  sheet.addEventListener("click", (event) => {
    const picture = event.target.closest(".stack");
    if (picture) look(picture.closest("li"));
  });
  closer.querySelector("button.close").addEventListener("click", () => closer.close());
  closer.addEventListener("close", () => open && stack(open).focus());
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());

  for (const tile of tiles) {
    const picture = stack(tile);
    picture.tabIndex = 0;
    picture.setAttribute("role", "button");
    picture.setAttribute("aria-haspopup", "dialog");
    picture.setAttribute("aria-label", `Look closer at ${tile.dataset.name}`);
  }
  root.classList.add("js");
  form.hidden = false;
  restore();
  apply();
})();
