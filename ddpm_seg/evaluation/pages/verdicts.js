"use strict";
// A person's verdicts on the masks, and a selection of images. Verdicts stay in the browser until they are saved.
(() => {
  const sheet = document.querySelector(".sheet");
  const panel = document.querySelector(".judging");
  if (!panel) return;
  const closer = document.querySelector("#closer");
  const tiles = [...sheet.children];
  const key = `ddpm_seg verdicts ${sheet.dataset.key}`;
  const kept = read();
  const said = panel.querySelector(".said");

  function read() {
    try {
      return new Map(Object.entries(JSON.parse(localStorage.getItem(key) ?? "{}")));
    } catch {
      return new Map(); // no storage in this browser, or another program's value
    }
  }

  function keep() {
    try {
      localStorage.setItem(key, JSON.stringify(Object.fromEntries(kept)));
    } catch {
      said.textContent = "This browser does not keep verdicts: save them before you leave the page.";
    }
  }

  const chosen = () => tiles.filter((tile) => "selected" in tile.dataset).sort((a, b) => a.dataset.order - b.dataset.order);
  const current = () => (closer.open ? tiles.find((tile) => tile.dataset.order === closer.dataset.order) : document.activeElement?.closest(".sheet > li"));
  const bars = (tile) => [tile.querySelector(".judge"), ...(closer.open && current() === tile ? [closer.querySelector(".judge")] : [])];

  function show(tile) {
    const verdict = kept.get(tile.dataset.uri) ?? "";
    tile.dataset.verdict = verdict;
    for (const bar of bars(tile)) {
      for (const button of bar.querySelectorAll("button")) button.setAttribute("aria-pressed", button.dataset.verdict === verdict);
      bar.querySelector("input").checked = "selected" in tile.dataset;
    }
  }

  function count() {
    const verdicts = [...kept.values()];
    const found = ["accept", "reject", "look again"].map((name) => `${verdicts.filter((one) => one === name).length} ${{accept: "accepted", reject: "rejected"}[name] ?? name}`);
    panel.querySelector(".judged").textContent = verdicts.length ? found.join(", ") : "No verdicts yet";
    const selected = chosen().length;
    panel.querySelector(".chosen").textContent = selected ? `${selected} selected` : "None selected";
    for (const button of panel.querySelectorAll("[data-needs]")) button.disabled = !(button.dataset.needs === "verdicts" ? verdicts.length : selected);
  }

  function judge(tile, verdict) {
    if (kept.get(tile.dataset.uri) === verdict) kept.delete(tile.dataset.uri);
    else kept.set(tile.dataset.uri, verdict);
    keep();
    show(tile);
    count();
  }

  function select(tile, on) {
    if (on) tile.dataset.selected = "";
    else delete tile.dataset.selected;
    show(tile);
    count();
  }

  const cell = (text) => `"${text.replaceAll('"', '""')}"`;
  const csv = (rows) => rows.map((row) => row.map(cell).join(",") + "\n").join("");

  function save(name, text) {
    const link = Object.assign(document.createElement("a"), {download: name, href: URL.createObjectURL(new Blob([text], {type: "text/csv"}))});
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    said.textContent = `Saved ${name}.`;
  }

  async function copy(text, what) {
    const field = panel.querySelector("textarea");
    try {
      await navigator.clipboard.writeText(text);
      field.hidden = true;
      said.textContent = `Copied ${what}.`;
    } catch { // no access to the clipboard: over http, or not allowed
      field.hidden = false;
      field.value = text;
      field.select();
      said.textContent = `Copy ${what} from here:`;
    }
  }

  const actions = {
    "save-verdicts": () => save("verdicts.csv", csv([["uri", "verdict", "run_id"], ...[...kept].map(([uri, verdict]) => [uri, verdict, sheet.dataset.run])])),
    "select-shown": () => tiles.forEach((tile) => !tile.hidden && select(tile, true)),
    "select-none": () => tiles.forEach((tile) => select(tile, false)),
    "copy-list": () => copy(chosen().map((tile) => tile.dataset.uri).join("\n"), "the list"),
    "save-list": () => save("selected.csv", csv([["uri"], ...chosen().map((tile) => [tile.dataset.uri])])),
    "copy-command": () => copy(panel.dataset.command, "the command; it reads selected.csv, so save the list too"),
  };
  panel.addEventListener("click", (event) => actions[event.target.dataset.action]?.());

  function watch(bar, tileOf) {
    bar.addEventListener("click", (event) => event.target.dataset.verdict && judge(tileOf(), event.target.dataset.verdict));
    bar.querySelector("input").addEventListener("change", (event) => select(tileOf(), event.target.checked));
  }

  const keys = {a: "accept", r: "reject", l: "look again"};
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("select, textarea")) return;
    const tile = current();
    if (tile && keys[event.key]) judge(tile, keys[event.key]);
    else if (tile && event.key === "s") select(tile, !("selected" in tile.dataset));
  });

  const blank = document.querySelector("#judge").content.firstElementChild;
  for (const tile of tiles) {
    const bar = blank.cloneNode(true);
    bar.setAttribute("aria-label", `Decide on ${tile.dataset.name}`);
    tile.querySelector("figcaption").prepend(bar);
    watch(bar, () => tile);
    show(tile);
  }
  const bar = blank.cloneNode(true);
  bar.setAttribute("aria-label", "Decide");
  closer.querySelector(".about").before(bar);
  watch(bar, current);
  closer.addEventListener("look", () => show(current()));
  panel.hidden = false;
  count();
})();
