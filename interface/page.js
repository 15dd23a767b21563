// Runs before Gradio starts. The choices on the page are stored in its address.
(() => {
  // Addresses in the page are relative: with a path prefix (/demo) they need its final slash.
  if (!window.location.pathname.endsWith("/")) {
    const { pathname, search, hash } = window.location;
    window.location.replace(`${pathname}/${search}${hash}`);
  }
  const address = new URL(window.location.href);
  let choices = address.searchParams;
  const remembered = (key) => {
    try {
      return window.localStorage.getItem(key);
    } catch {
      return null; // not available in a frame of another site
    }
  };
  const remember = (key, value) => {
    try {
      window.localStorage.setItem(key, value);
    } catch {
      return;
    }
  };

  const wanted = (address.searchParams.get("lang") || remembered("language") || navigator.language || "en").slice(0, 2);
  const language = wanted in pageLanguages ? wanted : Object.keys(pageLanguages)[0];
  document.documentElement.lang = language;

  const appearance = address.searchParams.get("__theme") || remembered("appearance");
  if (appearance === "dark" || appearance === "light") setAddress("__theme", appearance);

  const get = (name) => new URL(window.location.href).searchParams.get(name) || "";

  function setAddress(name, value, write = "replaceState") {
    const current = new URL(window.location.href);
    if (value) current.searchParams.set(name, value);
    else current.searchParams.delete(name);
    window.history[write](window.history.state, "", current);
    choices = current.searchParams; // for popstate
  }

  document.addEventListener("click", (event) => {
    const choice = event.target.closest?.("[data-language]");
    if (choice) {
      event.preventDefault();
      remember("language", choice.dataset.language);
      const next = new URL(window.location.href);
      next.searchParams.set("lang", choice.dataset.language);
      window.location.replace(next); // no entry in the history
    }
    if (event.target.closest?.("[data-appearance]")) {
      const next = document.body.classList.contains("dark") ? "light" : "dark";
      document.body.classList.toggle("dark", next === "dark");
      remember("appearance", next);
      setAddress("__theme", next);
    }
  });

  // The opacity of the overlay of important pixels, kept for the next pictures.
  const usualOpacity = "60";
  const opacity = () => new URL(window.location.href).searchParams.get("opacity") || usualOpacity;
  const showOpacity = () => document.documentElement.style.setProperty("--overlay", opacity() / 100);
  showOpacity();
  document.addEventListener("input", (event) => {
    if (!event.target.matches?.("[data-opacity]")) return;
    setAddress("opacity", event.target.value === usualOpacity ? "" : event.target.value);
    showOpacity();
  });

  new MutationObserver(() => {
    for (const slider of document.querySelectorAll("[data-opacity]:not([data-placed])")) {
      slider.value = opacity();
      slider.dataset.placed = "";
    }
  }).observe(document, { childList: true, subtree: true });

  // Typing into a dropdown replaces its text.
  document.addEventListener("focusin", (event) => {
    if (event.target.matches?.("#zoom input, #mistakes-class input")) event.target.select();
  });

  // Tables: a click on a column's header sorts, the field above filters.
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-sort]");
    if (!button) return;
    const head = button.closest("th");
    const body = head.closest("table").tBodies[0];
    const column = [...head.parentNode.children].indexOf(head);
    const rising = head.getAttribute("aria-sort") === "descending" || (head.getAttribute("aria-sort") === "none" && column < 2);
    const value = (row) => row.children[column].dataset.value ?? row.children[column].textContent;
    const compare = (a, b) => column < 2 ? value(a).localeCompare(value(b), language) : value(a) - value(b);
    const rows = [...body.rows].sort((a, b) => (rising ? 1 : -1) * compare(a, b));
    for (const other of head.parentNode.children) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", rising ? "ascending" : "descending");
    body.append(...rows);
  });
  const plain = (text) => text.normalize("NFD").replace(/\p{Diacritic}/gu, "").toLowerCase();
  document.addEventListener("input", (event) => {
    if (!event.target.matches?.("[data-search]")) return;
    const sought = plain(event.target.value);
    for (const row of event.target.parentNode.querySelectorAll("tbody tr")) {
      row.hidden = !plain(row.textContent).includes(sought);
    }
  });

  // The tab, the model and the example are stored in the address and restored from it. Tabs are entries of the history.
  const firstTab = "classify";
  document.addEventListener("click", (event) => {
    const tab = event.target.closest?.("[role=tab][data-tab-id]");
    const opened = tab?.dataset.tabId === firstTab ? "" : tab?.dataset.tabId;
    if (tab && opened !== get("tab")) setAddress("tab", opened, "pushState");
    const link = event.target.closest?.("[data-open-tab]");
    if (link) {
      event.preventDefault();
      controls.tab(link.dataset.openTab).click();
      window.scrollTo({ top: document.getElementById("tabs").offsetTop });
    }
  });
  document.addEventListener("change", (event) => {
    if (event.target.closest?.("#model")) setAddress("model", event.target.value);
  });
  window.addEventListener("popstate", () => {
    const tab = get("tab");
    const current = new URL(window.location.href);
    current.search = choices; // only the tab goes back, not the other choices
    window.history.replaceState(window.history.state, "", current);
    setAddress("tab", tab);
    controls.tab(tab || firstTab)?.click();
  });
  const controls = {
    tab: (id) => document.querySelector(`#tabs [role=tab][data-tab-id="${CSS.escape(id)}"]`),
    model: (name) => document.querySelector(`#model input[value="${CSS.escape(name)}"]`),
    example: (name) => document.getElementById(`example-${name}`),
  };
  const open = Object.entries(controls).filter(([name]) => address.searchParams.get(name));
  const restore = () => {
    for (const entry of [...open]) {
      const found = entry[1](address.searchParams.get(entry[0]));
      if (found) {
        open.splice(open.indexOf(entry), 1);
        setTimeout(() => found.click(), 300); // after Gradio has attached its handlers
      }
    }
    if (!open.length) observer.disconnect();
  };
  const observer = new MutationObserver(restore);
  if (open.length) observer.observe(document, { childList: true, subtree: true });

  // Inputs of events that the address holds: `defaults` has their names, with the values that it leaves out. They are the
  // last inputs but one, which is the language.
  const numbers = (text) => text.split(",").filter((part) => /^-?\d+(\.\d+)?$/.test(part)).map(Number);
  const read = (name, value) => {
    if (Array.isArray(value)) return numbers(get(name));
    return typeof value === "number" ? numbers(get(name))[0] ?? value : get(name) || value;
  };
  window.pageAddress = {
    storeExample: (picture) => {
      setAddress("example", picture?.path.match(/^examples\/(\w+)\./)?.[1]);
      return [];
    },
    store: (defaults, ...inputs) => {
      const values = inputs.slice(-1 - Object.keys(defaults).length, -1);
      Object.entries(defaults).forEach(([name, value], index) => {
        setAddress(name, String(values[index]) === String(value) ? "" : String(values[index]));
      });
      return [...inputs.slice(0, -1), language];
    },
    restore: (defaults, ...inputs) => {
      const values = Object.entries(defaults).map(([name, value]) => read(name, value));
      return [...inputs.slice(0, -1 - values.length), ...values, language];
    },
  };
})();
