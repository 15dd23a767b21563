// Runs before Gradio starts: language and appearance out of the address, else the visitor's own.
(() => {
  const address = new URL(window.location.href);
  const remembered = (key) => {
    try {
      return window.localStorage.getItem(key);
    } catch {
      return null; // storage is closed to pages in a frame of another site
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
  const language = wanted === "es" ? "es" : "en";
  document.documentElement.lang = language;
  // Gradio translates its own texts and ours into the language of the navigator.
  Object.defineProperty(navigator, "language", { get: () => language });
  Object.defineProperty(navigator, "languages", { get: () => [language] });

  const appearance = address.searchParams.get("__theme") || remembered("appearance");
  if (appearance === "dark" || appearance === "light") setAddress("__theme", appearance);

  function setAddress(name, value) {
    const current = new URL(window.location.href);
    if (value) current.searchParams.set(name, value);
    else current.searchParams.delete(name);
    window.history.replaceState(window.history.state, "", current);
  }

  document.addEventListener("click", (event) => {
    const choice = event.target.closest?.("[data-language]");
    if (choice) {
      event.preventDefault();
      remember("language", choice.dataset.language);
      const next = new URL(window.location.href);
      next.searchParams.set("lang", choice.dataset.language);
      window.location.assign(next);
    }
    if (event.target.closest?.("[data-appearance]")) {
      const next = document.body.classList.contains("dark") ? "light" : "dark";
      document.body.classList.toggle("dark", next === "dark");
      remember("appearance", next);
      setAddress("__theme", next);
    }
  });

  // How strongly the pixels that mattered are laid over the picture: kept from picture to picture.
  const usualOpacity = "60";
  const opacity = () => new URL(window.location.href).searchParams.get("opacity") || usualOpacity;
  const showOpacity = () => document.documentElement.style.setProperty("--overlay", opacity() / 100);
  showOpacity();
  document.addEventListener("input", (event) => {
    if (!event.target.matches?.("[data-opacity]")) return;
    setAddress("opacity", event.target.value === usualOpacity ? "" : event.target.value);
    showOpacity();
  });

  // What Gradio says only in English, in the words of the page.
  const messages = [
    [/currently busy|queue is full/i, "error_queue_full"],
    [/maximum allowed size|size exceed/i, "error_upload_limit"],
    [/invalid file type/i, "error_unknown_format"],
    [/^\s*(Connection errored out|Failed to fetch|Load failed|NetworkError)/i, "error_connection"],
    [/^\s*Error\s*$/, "error_title"],
  ];
  const inWords = (toast) => {
    const walker = document.createTreeWalker(toast, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const known = messages.find(([pattern]) => pattern.test(walker.currentNode.data));
      if (known) walker.currentNode.data = pageTexts[known[1]][language];
    }
  };
  const labels = {
    "Remove Image": "label_remove",
    "File upload": "label_upload",
    "Upload file": "label_upload",
    "Capture from camera": "label_camera",
    "Paste from clipboard": "label_paste",
    "Reset to default value": "label_reset",
    "More tabs": "label_more_tabs",
    "Gradio footer navigation": "label_footer",
  };
  const labelled = (element, attribute) => {
    const label = element.getAttribute(attribute);
    const [, kind, name] = label.match(/^(number input|range slider) for (.*)$/) ?? [];
    const key = kind ? `label_${kind.split(" ")[0]}` : labels[label];
    const text = key && pageTexts[key][language].replace("{name}", name);
    if (text && text !== label) element.setAttribute(attribute, text);
  };
  new MutationObserver(() => {
    for (const attribute of ["aria-label", "title"]) {
      for (const element of document.querySelectorAll(`[${attribute}]`)) labelled(element, attribute);
    }
    // What scrolls is reached with the keyboard.
    for (const table of document.querySelectorAll("#card table:not([tabindex])")) table.tabIndex = 0;
    // It is called what it says, not otherwise.
    document.querySelector("#picture .upload-container[aria-label]")?.removeAttribute("aria-label");
    for (const image of document.querySelectorAll('[id^="example-"] img:not([alt=""])')) image.alt = "";
    if (language === "es") {
      // Gradio writes the five percentages itself, and only as in English.
      for (const share of document.querySelectorAll("#answer .confidence")) {
        for (const text of share.childNodes) {
          if (/\d%/.test(text.data)) text.data = text.data.replace("%", "\u00a0%");
        }
      }
    }
    for (const toast of document.querySelectorAll('[data-testid="toast-body"]')) inWords(toast);
    for (const slider of document.querySelectorAll("[data-opacity]:not([data-placed])")) {
      slider.value = opacity();
      slider.dataset.placed = "";
    }
  }).observe(document, { childList: true, characterData: true, subtree: true });

  // What is typed into a choice takes the place of what stands there.
  document.addEventListener("focusin", (event) => {
    if (event.target.matches?.("#zoom input, #mistakes-class input")) event.target.select();
  });

  // Tables sort by a click on a column's head, and are searched by what is typed above them.
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

  // The tab, the model and the example are kept in the address, and found again from there.
  document.addEventListener("click", (event) => {
    const tab = event.target.closest?.("[role=tab][data-tab-id]");
    if (tab) setAddress("tab", tab.dataset.tabId === "classify" ? "" : tab.dataset.tabId);
    const link = event.target.closest?.("[data-open-tab]");
    if (link) {
      event.preventDefault();
      wishes.tab(link.dataset.openTab).click();
      window.scrollTo({ top: document.getElementById("tabs").offsetTop });
    }
    const example = event.target.closest?.("[id^=example-]");
    if (example) setAddress("example", example.id.replace("example-", ""));
  });
  document.addEventListener("change", (event) => {
    if (event.target.closest?.("#model")) setAddress("model", event.target.value);
    if (event.target.closest?.("#picture")) setAddress("example", "");
  });
  const wishes = {
    tab: (id) => document.querySelector(`#tabs [role=tab][data-tab-id="${CSS.escape(id)}"]`),
    model: (name) => document.querySelector(`#model input[value="${CSS.escape(name)}"]`),
    example: (name) => document.getElementById(`example-${name}`),
  };
  const open = Object.entries(wishes).filter(([name]) => address.searchParams.get(name));
  const grant = () => {
    for (const wish of [...open]) {
      const found = wish[1](address.searchParams.get(wish[0]));
      if (found) {
        open.splice(open.indexOf(wish), 1);
        setTimeout(() => found.click(), 300); // when Gradio has connected what it has just shown
      }
    }
    if (!open.length) observer.disconnect();
  };
  const observer = new MutationObserver(grant);
  if (open.length) observer.observe(document, { childList: true, subtree: true });

  const get = (name) => new URL(window.location.href).searchParams.get(name) || "";
  const numbers = (name) => get(name).split(",").filter((part) => /^\d+$/.test(part)).map(Number);
  window.pageAddress = { set: setAddress, get, numbers };
})();
