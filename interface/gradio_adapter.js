// Changes to Gradio's page for which it has no setting (Gradio 6.31; tests/test_browser.py tests each of them).
// Runs after page.js, which sets the document's language.
(() => {
  const language = document.documentElement.lang;

  // Gradio selects the language of all texts by the navigator's language: there is no setting.
  Object.defineProperty(navigator, "language", { get: () => language });
  Object.defineProperty(navigator, "languages", { get: () => [language] });

  // Its client warns after every upload that its own `close` is not implemented.
  const warn = console.warn;
  console.warn = (...parts) => {
    if (parts[0] !== "Method not implemented.") warn.apply(console, parts);
  };

  // It refuses files by the type that the browser guesses from the name: here the server checks the content.
  // Drawings (SVG) it would send as text in the place of an upload.
  const isPicture = (file) => file.type.startsWith("image/") && !file.type.startsWith("image/svg");
  const asPictures = (files) => {
    const taken = new DataTransfer();
    for (const file of files) {
      taken.items.add(isPicture(file) ? file : new File([file], file.name, { type: "image/unknown" }));
    }
    return taken.files;
  };
  document.addEventListener("change", ({ target }) => {
    if (!target.matches?.("#picture input[type=file]")) return;
    closeToasts();
    if (![...target.files].every(isPicture)) target.files = asPictures(target.files);
  }, true);
  document.addEventListener("drop", (event) => {
    const zone = event.target.closest?.("#picture .upload-container");
    const input = zone?.querySelector("input[type=file]");
    const files = event.dataTransfer?.files ?? [];
    if (!input || !files.length) return;
    closeToasts();
    if ([...files].every(isPicture)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    zone.dispatchEvent(new DragEvent("dragleave", { bubbles: true, cancelable: true }));
    input.files = asPictures(files);
    input.dispatchEvent(new Event("change", { bubbles: true }));
  }, true);

  // The error messages of the last picture are closed for the next one.
  const closeToasts = () => {
    for (const button of document.querySelectorAll('[data-testid="toast-close"]')) button.click();
  };
  document.addEventListener("click", (event) => {
    if (event.target.closest?.("[id^=example-], #model input")) closeToasts();
  });

  // Keyboard navigation of the tabs, as in the WAI-ARIA pattern: arrow keys, Home and End.
  const tabs = () => [...document.querySelectorAll("#tabs > .tab-wrapper [role=tab]")].filter((tab) => tab.checkVisibility());
  document.addEventListener("keydown", (event) => {
    const shown = tabs();
    const place = shown.indexOf(event.target);
    if (place < 0 || event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
    const next = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: -1 }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    const chosen = shown.at(next % shown.length);
    chosen.click();
    chosen.focus();
  });
  const updateTabIndex = () => {
    for (const tab of document.querySelectorAll("#tabs > .tab-wrapper [role=tab]")) {
      tab.tabIndex = tab.ariaSelected === "true" ? 0 : -1;
    }
    for (const panel of document.querySelectorAll('#tabs [role=tabpanel][id^="tab-"]:not([aria-labelledby])')) {
      panel.setAttribute("aria-labelledby", `${panel.id}-button`);
    }
  };

  // Translations of its English messages.
  const messages = [
    [/currently busy|queue is full/i, "error_queue_full"],
    [/maximum allowed size|size exceed|the upload is larger than/i, "error_upload_limit"],
    [/space for uploads is full/i, "error_uploads_full"],
    [/invalid file type/i, "error_unknown_format"],
    [/^\s*(Connection errored out|Failed to fetch|Load failed|NetworkError)/i, "error_connection"],
    [/^\s*Error\s*$/, "error_title"],
  ];
  const translate = (toast) => {
    const walker = document.createTreeWalker(toast, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const known = messages.find(([pattern]) => pattern.test(walker.currentNode.data));
      const text = known && pageTexts[known[1]][language];
      // Setting the same text again would trigger the observer endlessly.
      if (text && text !== walker.currentNode.data) walker.currentNode.data = text;
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
  const translateLabel = (element, attribute) => {
    const label = element.getAttribute(attribute);
    const [, kind, name] = label.match(/^(number input|range slider) for (.*)$/) ?? [];
    const key = kind ? `label_${kind.split(" ")[0]}` : labels[label];
    const text = key && pageTexts[key][language].replace("{name}", name);
    if (text && text !== label) element.setAttribute(attribute, text);
  };

  new MutationObserver(() => {
    for (const attribute of ["aria-label", "title"]) {
      for (const element of document.querySelectorAll(`[${attribute}]`)) translateLabel(element, attribute);
    }
    for (const toast of document.querySelectorAll('[data-testid="toast-body"]')) translate(toast);
    updateTabIndex();
    for (const input of document.querySelectorAll("#picture input[type=file][accept]")) input.removeAttribute("accept");
    // Scrollable tables can be focused with the keyboard.
    for (const table of document.querySelectorAll("#card table:not([tabindex])")) table.tabIndex = 0;
    // Its accessible name is its text.
    document.querySelector("#picture .upload-container[aria-label]")?.removeAttribute("aria-label");
    for (const image of document.querySelectorAll('[id^="example-"] img:not([alt=""])')) image.alt = "";
    // It formats the percentages as in English.
    const { percentSign } = pageLanguages[language];
    for (const share of document.querySelectorAll("#answer .confidence")) {
      for (const text of share.childNodes) {
        const written = text.data?.replace(/(\d)%/, `$1${percentSign}`);
        if (written !== text.data) text.data = written;
      }
    }
  }).observe(document, { attributeFilter: ["aria-selected"], childList: true, characterData: true, subtree: true });
})();
