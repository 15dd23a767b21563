// The *Classify* tab: chooses pictures, has the worker classify them, and shows the answers.

const { data, text, find, get, keep, chosen } = window.page;
const files = find("#picture input[type=file]");
const preview = find("#picture img");
const video = find("#picture video");
const answer = find("#answer");
const panels = ["#answer", "#note", "#details", "#others", "#view"].map((id) => find(id));

const QUICK = 5e8; // operations an image: the occlusion maps of such models come unasked
const RUNTIME = ["runtime/ort.wasm.bundle.min.js", "runtime/ort-wasm-simd-threaded.wasm.gz"];
const SCRIPTS = ["scripts/worker.js", "scripts/pixels.js"];

// What is shown: {name, file, pixels by size, answers by model, maps by model, error}.
let picture = {};

const language = () => document.documentElement.lang;
const percent = (share) => new Intl.NumberFormat(language(), { style: "percent" }).format(share);
const megabytes = (bytes) => new Intl.NumberFormat(language(), { maximumFractionDigits: 1 }).format(bytes / 1e6);
const absolute = (url) => new URL(url, document.baseURI).href;
const part = (name) => find(`template[lang="${language()}"][data-part="${name}"]`).content.firstElementChild.cloneNode(true);

// The worker: a task is posted with a number, and what comes back bears it.
let worker;
let last = 0;
const waiting = new Map();
function ask(task, input, progress) {
  if (!worker) {
    const own = (worker = new Worker(absolute("scripts/worker.js"), { type: "module" }));
    worker.onmessage = ({ data: { id, progress, result, error } }) => {
      const task = waiting.get(id);
      if (!task) return; // its other part has failed
      if (progress !== undefined) return task.progress?.(progress);
      waiting.delete(id);
      return error ? task.reject(error) : task.resolve(result);
    };
    worker.onerror = () => {
      own.terminate();
      if (worker !== own) return; // another has taken its place
      for (const task of waiting.values()) task.reject("connection");
      waiting.clear();
      worker = undefined;
      loads.clear();
    };
  }
  return new Promise((resolve, reject) => {
    waiting.set(++last, { resolve, reject, progress });
    worker.postMessage({ id: last, task, ...input });
  });
}

const isTooOld = () => !["WebAssembly", "DecompressionStream", "OffscreenCanvas"].every((name) => name in window);

// Loads the runtime and a model once, with a progress bar.
const loads = new Map();
function load({ name, url }) {
  if (isTooOld()) return Promise.reject("browser");
  if (!loads.has(name)) {
    const loading = ask("load", { model: absolute(url), runtime: absolute(RUNTIME[1]) }, showProgress);
    loads.set(name, loading.finally(() => (find("#loading").hidden = true)));
    loading.catch(() => loads.delete(name));
  }
  return loads.get(name);
}

function showProgress({ loaded, total }) {
  find("#loading").hidden = loaded >= total;
  Object.assign(find("#loading progress"), { max: total, value: loaded });
  find("#loading-text").textContent = text("static_loading", { loaded: megabytes(loaded), total: megabytes(total) });
}

let choices = 0; // the last one counts, however long a file takes to load
function choose(file, name, example) {
  choices += 1;
  URL.revokeObjectURL(preview.src);
  picture = { file, name, answers: {}, maps: {} };
  preview.removeAttribute("src"); // it comes once the worker has checked and decoded the file
  stopCamera();
  tell("#problem");
  keep("example", example);
  classify();
}

// Answers with the chosen model, unless another picture or model is chosen meanwhile.
async function classify() {
  const [current, model] = [picture, chosen()];
  const isCurrent = () => current === picture && model === chosen();
  delete answer.dataset.file;
  stopMaps();
  if (current.file) {
    for (const panel of panels) panel.inert = true; // what they show is of another picture or model
    const error = await predict(current, model).catch((code) => code);
    if (isCurrent()) current.error = error;
  }
  if (!isCurrent()) return;
  render();
  if (!current.file) return;
  answer.dataset.file = current.name; // last: programs wait for it
  if (window.innerWidth < 700) (current.error ? find("#details") : answer).scrollIntoView();
  if (current.error) return;
  if (model.flops && model.flops < QUICK) explain();
  askOthers((other) => loads.has(other.name));
  const loaded = data.models.filter(({ name }) => loads.has(name));
  keepOffline([...loaded.map(({ url }) => url), ...RUNTIME, ...SCRIPTS]);
}

async function predict(current, model) {
  const loading = load(model);
  const sizes = [...new Set(data.models.map((each) => each.image_size))];
  const decode = async () => {
    const pixels = await ask("decode", { file: current.file, sizes, limits: data.limits });
    if (current === picture) preview.src = URL.createObjectURL(current.file);
    showCamera(Boolean(video.srcObject));
    return pixels;
  };
  current.decoding ??= decode().catch((code) => {
    if (code === "connection") delete current.decoding; // tried again at the next call
    throw code;
  });
  const [pixels] = await Promise.all([current.decoding, loading]);
  current.pixels = pixels;
  current.answers[model.name] ??= await ask("classify", input(current, model));
}

function input(current, { url, image_size: size }) {
  return { model: absolute(url), pixels: current.pixels[size], size };
}

async function askOthers(isWanted) {
  const current = picture;
  for (const model of data.models.filter(isWanted)) {
    await predict(current, model).catch((code) => tell("#problem", `error_${code}`));
    if (current === picture) renderAll();
  }
}

// Computes the occlusion map of the chosen model, and shows it as it grows.
async function explain() {
  const [current, model] = [picture, chosen()];
  const { answers, maps } = current;
  if (maps[model.name]) return;
  const [[index, before]] = ranked(answers[model.name]);
  const map = (maps[model.name] = { done: 0, total: 1 });
  const show = () => current === picture && model === chosen() && renderView(model);
  const isStopped = () => maps[model.name] !== map;
  const grown = (progress) => {
    Object.assign(map, progress);
    if (!isStopped()) show();
  };
  show();
  const overlay = await ask("occlude", { ...input(current, model), index, before }, grown).catch(() => null);
  if (isStopped()) return;
  if (overlay) maps[model.name] = { overlay };
  else delete maps[model.name];
  show();
}

// Ends the maps that are being computed.
function stopMaps() {
  if (worker) ask("stop", { last });
  for (const [name, { total }] of Object.entries(picture.maps ?? {})) if (total) delete picture.maps[name];
}

function stop() {
  stopMaps();
  renderView(chosen());
}

function ranked(probabilities) {
  return [...probabilities.entries()].sort((one, other) => other[1] - one[1]);
}

// Everything below writes what is known into the page.
function render() {
  const model = chosen();
  const probabilities = !picture.error && picture.answers?.[model.name];
  showCamera(Boolean(video.srcObject));
  for (const name of ["model", "top1", "probability", "error"]) delete answer.dataset[name];
  for (const panel of panels) {
    panel.inert = false;
    panel.replaceChildren();
  }
  if (picture.error) refuse(picture.error);
  else if (probabilities) renderAnswer(model, probabilities);
  else if (!picture.file) find("#details").replaceChildren(part("waiting"));
}

function refuse(code) {
  answer.dataset.error = code;
  const message = part("refused");
  find("p", message).textContent = text(`error_${code}`);
  message.setAttribute("role", "alert");
  find("#details").replaceChildren(message);
}

function renderAnswer(model, probabilities) {
  const top = ranked(probabilities).slice(0, data.shown);
  const [index, probability] = top[0];
  const names = model.names[language()];
  Object.assign(answer.dataset, { model: model.name, top1: model.classes[index], probability });
  const five = part("answer");
  find("h2", five).textContent = names[index];
  answer.replaceChildren(withBars(five, top.map(([place, share]) => [names[place], share])));
  renderNote(model, probability);
  if (model.superclasses) find("#details").replaceChildren(renderSuperclasses(model, probabilities));
  if (data.models.length > 1) renderAll();
  renderView(model);
}

function renderNote({ confidence, classes }, probability) {
  if (!confidence) return;
  const kind = probability >= confidence.threshold ? "sure" : "unsure";
  const note = part(kind);
  const [threshold, accuracy, coverage] = ["threshold", "accuracy", "coverage"].map((name) => percent(confidence[name]));
  find("span", note).textContent = text(kind, { threshold, accuracy, coverage, classes: classes.length });
  find("#note").replaceChildren(note);
}

function renderSuperclasses(model, probabilities) {
  const sums = model.superclasses.map(() => 0);
  probabilities.forEach((share, index) => (sums[model.superclass_of[index]] += share));
  const rows = ranked(sums).map(([index, share]) => [model.superclass_names[language()][index], share]);
  const shown = rows.slice(0, data.shown_superclasses);
  const rest = rows.slice(data.shown_superclasses).reduce((sum, [, share]) => sum + share, 0);
  if (rest > 0) shown.push([text("others"), rest]);
  return withBars(part("superclasses"), shown);
}

function renderAll() {
  const answered = data.models.filter(({ name }) => picture.answers[name]);
  const rows = answered.map(({ name, names }) => {
    const [[index, share]] = ranked(picture.answers[name]);
    const bold = Object.assign(document.createElement("b"), { textContent: name });
    return [[bold, ` ${names[language()][index]}`], share, name === chosen().name];
  });
  const card = withBars(part("all_models"), rows);
  const missing = data.models.filter(({ name }) => !picture.answers[name]);
  const total = megabytes(missing.reduce((sum, { bytes }) => sum + bytes, 0));
  const button = missing.length ? [action("others", text("static_other_models", { total }))] : [];
  find("p", card).replaceChildren(...button);
  find("#others").replaceChildren(card);
}

function renderView(model) {
  const size = model.image_size;
  const { done, total, overlay } = picture.maps[model.name] ?? {};
  const view = part(overlay ? "model_view_with_map" : "model_view");
  const [image, layer] = view.querySelectorAll("img");
  image.src = pngOf(opaque(picture.pixels[size]), size);
  image.alt = text("model_view_alt", { size });
  if (overlay) {
    layer.src = pngOf(overlay, size);
    find("[data-opacity]", view).value = opacity();
  } else view.lastElementChild.textContent = text("model_view_note", { size });
  if (total) {
    const bar = Object.assign(document.createElement("progress"), { max: total, value: done, ariaLabel: text("opacity") });
    view.append(bar, action("stop", text("static_stop")));
  } else if (!overlay) view.append(action("map", text("static_map")));
  const focused = document.activeElement?.closest("#view [data-do]");
  find("#view").replaceChildren(view);
  if (focused) find("[data-do], [data-opacity]", view)?.focus();
}

// Fills the bars in a part with rows of name, share and whether it is the current one.
function withBars(element, rows) {
  const list = find("ul", element);
  const [first] = list.children;
  const items = rows.map(([name, share, isCurrent]) => {
    const item = first.cloneNode(true);
    find("span", item).replaceChildren(...[name].flat());
    find(".value", item).textContent = percent(share);
    find("rect", item).setAttribute("width", `${100 * share}%`);
    if (isCurrent) item.setAttribute("aria-current", "true");
    return item;
  });
  list.replaceChildren(...items);
  return element;
}

function action(name, label) {
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: label });
  button.dataset.do = name;
  return button;
}

function opaque(pixels) {
  return Uint8ClampedArray.from({ length: (pixels.length / 3) * 4 }, (_, at) => (at % 4 === 3 ? 255 : pixels[(at >> 2) * 3 + (at % 4)]));
}

function pngOf(pixels, size) {
  const canvas = Object.assign(document.createElement("canvas"), { width: size, height: size });
  canvas.getContext("2d").putImageData(new ImageData(pixels, size, size), 0, 0);
  return canvas.toDataURL();
}

const opacity = () => get("opacity") || "60";
const showOpacity = () => document.documentElement.style.setProperty("--overlay", opacity() / 100);

// Shows a text, which page.js translates when the language changes.
function tell(place, key = "") {
  find(place).dataset.text = key;
  find(place).textContent = key && text(key);
}

// The camera
async function camera() {
  const stream = await navigator.mediaDevices.getUserMedia({ video: true });
  stopCamera(); // the button was clicked twice
  video.srcObject = stream;
  if (find("#tab-classify").hidden) return stopCamera(); // another tab was opened meanwhile
  const isCurrent = () => video.srcObject === stream;
  await video.play().catch((error) => {
    if (!isCurrent()) return;
    stopCamera();
    throw error;
  });
  if (isCurrent()) showCamera(true);
}

function showCamera(isOn) {
  video.hidden = find("[data-do=take]").hidden = find("[data-do=close]").hidden = !isOn;
  find("[data-do=remove]").hidden = isOn || !picture.file;
  preview.hidden = isOn || !preview.hasAttribute("src");
}

function stopCamera() {
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  video.srcObject = null;
  showCamera(false);
}

function take() {
  const canvas = Object.assign(document.createElement("canvas"), { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob((blob) => choose(blob, "camera.png"));
}

async function paste() {
  const items = await navigator.clipboard.read();
  const item = items.find(({ types }) => types.includes("image/png")); // which browsers turn all pictures into
  choose(await item.getType("image/png"), "clipboard.png");
}

async function example(button) {
  const current = ++choices;
  const response = await fetch(button.dataset.example);
  if (!response.ok) throw response.status;
  const content = await response.blob();
  if (current === choices) choose(content, button.dataset.example.split("/").pop(), button.id.replace("example-", ""));
}

const actions = {
  camera: () => camera().catch(() => tell("#problem", "error_camera")),
  take,
  paste: () => paste().catch(() => tell("#problem", "error_paste")),
  close: stopCamera,
  remove: () => choose(),
  map: explain,
  stop,
  others: () => askOthers(({ name }) => !picture.answers[name]),
};

document.addEventListener("click", ({ target }) => {
  actions[target.closest("[data-do]")?.dataset.do]?.();
  const button = target.closest("[data-example]");
  if (button) example(button).catch(() => tell("#problem", "error_connection"));
});
document.addEventListener("change", ({ target }) => {
  if (target.name === "model") classify();
});
new MutationObserver(() => find("#tab-classify").hidden && stopCamera()).observe(find("#tab-classify"), { attributeFilter: ["hidden"] });
files.addEventListener("change", () => {
  if (files.files[0]) choose(files.files[0], files.files[0].name);
  files.value = ""; // the same file can be chosen again
});
document.addEventListener("input", ({ target }) => {
  if (!target.matches("[data-opacity]")) return;
  keep("opacity", target.value === "60" ? "" : target.value);
  showOpacity();
});
document.addEventListener("paste", ({ clipboardData: { files } }) => files[0] && choose(files[0], files[0].name));
document.addEventListener("languagechange", render);
find("#picture").addEventListener("dragover", (event) => event.preventDefault());
find("#picture").addEventListener("drop", (event) => {
  event.preventDefault();
  const [file] = event.dataTransfer.files;
  if (file) choose(file, file.name);
});
// The default model and the runtime are loaded at the first touch.
for (const place of ["#picture", "#examples"]) {
  for (const event of ["pointerdown", "focusin", "dragenter"]) {
    find(place).addEventListener(event, () => load(chosen()).catch(() => {}), { once: true });
  }
}

// Offline: what the page has loaded, and the examples, are kept once there is an answer. A frame of another site may refuse it.
let offline;
async function keepOffline(urls) {
  try {
    offline ??= navigator.serviceWorker.register("service_worker.js");
    const cache = await caches.open(`static-page-${(await offline).scope}`);
    const loaded = performance.getEntriesByType("resource").map(({ name }) => name);
    const named = [...urls, ...data.examples.map(({ url }) => url)];
    const own = [location.href, ...loaded, ...named.map(absolute)].map((url) => url.split(/(index\.html)?([?#]|$)/)[0]);
    for (const url of new Set(own.filter((url) => url.startsWith(absolute("."))))) {
      if (!(await cache.match(url))) await cache.add(url);
    }
    tell("#offline span", "static_offline");
  } catch (error) {
    offline = undefined; // tried again after the next answer
    if (window.top !== window) tell("#offline a", "static_direct");
    else if (!navigator.serviceWorker || !(error instanceof TypeError)) tell("#offline span", "static_no_storage");
  }
}

addEventListener("DOMContentLoaded", () => {
  showOpacity();
  render();
  if (isTooOld()) tell("#problem", "error_browser");
  document.getElementById(`example-${get("example")}`)?.click();
});
