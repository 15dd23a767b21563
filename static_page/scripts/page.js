// Language, theme, model, tab and the other choices: they live in the address of the page. Loaded before the page is
// shown, so that it comes in the right language and theme; classify.js does the rest, with what `page` offers.
(() => {
  const data = JSON.parse(document.getElementById("page-data").textContent);
  const root = document.documentElement;
  const languages = Object.keys(data.texts);
  const get = (name) => new URL(location.href).searchParams.get(name) || "";

  let choices = new URL(location.href).searchParams;
  function keep(name, value, write = "replaceState") {
    const address = new URL(location.href);
    if (value) address.searchParams.set(name, value);
    else address.searchParams.delete(name);
    history[write](null, "", address);
    choices = address.searchParams; // for popstate
  }

  // Storage is refused in frames of other sites.
  function remembered(key) {
    try {
      return localStorage.getItem(key);
    } catch {
      return null;
    }
  }
  function remember(key, value) {
    try {
      localStorage.setItem(key, value);
    } catch {
      // The address still holds it.
    }
  }

  const wanted = (get("lang") || remembered("language") || navigator.language || "").slice(0, 2);
  root.lang = languages.includes(wanted) ? wanted : languages[0];
  const appearance = get("__theme") || remembered("appearance");
  const dark = appearance ? appearance === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.body.classList.toggle("dark", dark);

  const text = (key, values = {}) => data.texts[root.lang][key]?.replace(/\{(\w+)\}/g, (field, name) => values[name] ?? field);
  const find = (selector, inside = document) => inside.querySelector(selector);
  const every = (selector, inside = document) => [...inside.querySelectorAll(selector)];
  const model = () => find("#model input:checked").value;
  const described = () => data.models.find(({ name }) => name === model());

  // Texts: data-text names that of an element, data-label its accessible name.
  function translate() {
    document.title = text("title", { size: described().image_size });
    for (const element of every("[data-text]")) element.textContent = text(element.dataset.text);
    for (const element of every("[data-label]")) element.setAttribute("aria-label", text(element.dataset.label));
    find("#head").innerHTML = data.heads[model()][root.lang];
  }

  // Parts of the page that are loaded when they are shown. The braces in their address are filled in.
  async function load(part) {
    if (part.closest("[hidden]") || part.parentNode.closest("[aria-busy]")) return; // what it is in is replaced
    const fields = { "{version}": find("#tabs").dataset.version, "{model}": model(), "{language}": root.lang };
    const source = part.dataset.source.replace(/\{\w+\}/g, (field) => fields[field].split("/").map(encodeURIComponent).join("/"));
    if (part.dataset.loaded === source) return;
    part.dataset.loaded = source;
    part.setAttribute("aria-busy", "true");
    part.inert = true; // what it shows is of another model or language
    let content = "";
    try {
      const answer = await fetch(source);
      content = answer.ok ? await answer.text() : "";
    } catch {
      // Without a network.
    }
    if (part.dataset.loaded !== source) return; // another model or language was chosen meanwhile
    part.removeAttribute("aria-busy");
    part.inert = false;
    if (!content) part.dataset.loaded = "";
    part.innerHTML = content || `<p class="notice">${text("error_connection")}</p>`; // the next opening tries again
    if (content) restore(part);
  }
  const loadAll = () => Promise.all(every("[data-source]").map(load));

  // Controls with a name: the address holds their values, but for those that the page comes with.
  const controls = (inside) => every("select[name], input[name]:not([name=model])", inside);
  const isList = (control) => control.localName === "select";
  const isChosen = (control) => isList(control) || control.checked;
  const isUsual = (control) => (isList(control) ? control.selectedOptions[0].defaultSelected : control.checked === control.defaultChecked);
  const most = (control) => control.closest("[data-most]")?.dataset.most; // of checkboxes, at a time
  function restore(inside) {
    for (const control of controls(inside)) {
      const value = get(control.name);
      const values = value.split(",").slice(0, most(control));
      const isKnown = every(`[name="${control.name}"]`, inside).some((other) => values.includes(other.value));
      if (!isList(control)) control.checked = isKnown ? values.includes(control.value) : control.defaultChecked;
      else if (every("option", control).some((option) => option.value === value)) control.value = value;
    }
    show();
  }
  // What is shown by a choice says so: data-when="name=value&…", or data-unless.
  function show() {
    const chosen = controls(document).filter(isChosen).map(({ name, value }) => `${name}=${value}`);
    const holds = (terms) => [...new URLSearchParams(terms)].every((term) => chosen.includes(term.join("=")));
    for (const part of every("[data-when]")) part.toggleAttribute("hidden", !holds(part.dataset.when));
    for (const part of every("[data-unless]")) part.hidden = holds(part.dataset.unless);
    for (const group of every("[data-most]")) {
      const isFull = every(":checked", group).length >= group.dataset.most;
      for (const box of every("input", group)) box.disabled = isFull && !box.checked;
    }
    loadAll();
  }

  function openTab(id, focus) {
    for (const tab of every("#tabs [role=tab]")) {
      const opened = tab.dataset.tabId === id;
      tab.setAttribute("aria-selected", opened);
      tab.classList.toggle("selected", opened);
      tab.tabIndex = opened ? 0 : -1;
      document.getElementById(tab.getAttribute("aria-controls")).hidden = !opened;
      if (opened && focus) tab.focus();
    }
    loadAll();
  }
  const tabs = () => every("#tabs [role=tab]").map((tab) => tab.dataset.tabId);
  const asked = () => (tabs().includes(get("tab")) ? get("tab") : tabs()[0]);
  function chooseTab(id, focus) {
    if (id !== asked()) keep("tab", id === tabs()[0] ? "" : id, "pushState"); // an entry in the history
    openTab(id, focus);
  }

  function setLanguage(language) {
    root.lang = language;
    remember("language", language);
    keep("lang", language);
    translate();
    find(`[data-language="${language}"]`).focus();
    document.dispatchEvent(new CustomEvent("languagechange"));
    loadAll();
  }

  document.addEventListener("click", (event) => {
    const at = (selector) => event.target.closest(selector);
    const language = at("[data-language]");
    const link = at("[data-open-tab]");
    if (language || link) event.preventDefault();
    if (language) setLanguage(language.dataset.language);
    if (link) chooseTab(link.dataset.openTab, true);
    if (at("[role=tab]")) chooseTab(at("[role=tab]").dataset.tabId);
    if (at("[data-sort]")) sort(at("[data-sort]"));
    if (at("[data-appearance]")) {
      const next = document.body.classList.toggle("dark") ? "dark" : "light";
      remember("appearance", next);
      keep("__theme", next);
    }
  });
  document.addEventListener("change", ({ target }) => {
    if (target.name === "model") {
      keep("model", target.value);
      translate();
      loadAll();
    } else if (target.name && controls(document).includes(target)) {
      const same = controls(document).filter(({ name }) => name === target.name);
      const values = same.filter(isChosen).map(({ value }) => value);
      keep(target.name, same.every(isUsual) ? "" : values.join(","));
      show();
    }
  });
  document.addEventListener("keydown", (event) => {
    if (!event.target.matches("[role=tab]") || event.altKey || event.ctrlKey || event.metaKey) return;
    const all = tabs();
    const here = all.indexOf(event.target.dataset.tabId);
    const places = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: -1 };
    if (!(event.key in places)) return;
    event.preventDefault();
    chooseTab(all.at(places[event.key] % all.length), true);
  });

  // The table of the classes: a click on the head of a column sorts, the field above filters.
  function sort(button) {
    const head = button.closest("th");
    const body = head.closest("table").tBodies[0];
    const column = [...head.parentNode.children].indexOf(head);
    const state = head.getAttribute("aria-sort");
    const rising = state === "descending" || (state === "none" && column < 2);
    const value = (row) => row.children[column].dataset.value ?? row.children[column].textContent;
    const compare = (a, b) => (column < 2 ? value(a).localeCompare(value(b), root.lang) : value(a) - value(b));
    const rows = [...body.rows].sort((a, b) => (rising ? 1 : -1) * compare(a, b));
    for (const other of head.parentNode.children) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", rising ? "ascending" : "descending");
    body.append(...rows);
  }
  const plain = (text) => text.normalize("NFD").replace(/\p{Diacritic}/gu, "").toLowerCase();
  document.addEventListener("input", ({ target }) => {
    if (!target.matches("[data-search]")) return;
    for (const row of every("tbody tr", target.parentNode)) row.hidden = !plain(row.textContent).includes(plain(target.value));
  });

  document.addEventListener("DOMContentLoaded", () => {
    const named = every("#model input").find((input) => input.value === get("model"));
    if (named) named.checked = true;
    translate();
    openTab(asked());
  });
  addEventListener("online", loadAll);
  addEventListener("popstate", () => {
    const tab = get("tab");
    const address = new URL(location.href);
    address.search = choices; // only the tab goes back, not the other choices
    history.replaceState(null, "", address);
    keep("tab", tab);
    openTab(asked());
  });
  window.page = { data, text, find, get, keep, chosen: described };
})();
