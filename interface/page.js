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

  window.pageAddress = { set: setAddress, get: (name) => new URL(window.location.href).searchParams.get(name) };
})();
