// The Web Worker that decodes pictures and runs the models, so that the page stays responsive.
//
// The page posts {id, task, ...input}; answers are {id, progress}, {id, result} or {id, error}.

import * as ort from "../runtime/ort.wasm.bundle.min.js";
import { ImageError, decode } from "./pixels.js";

const STEPS = 8; // as in classifier/prediction/occlusion.py
const FOR = [255, 122, 26];
const AGAINST = [36, 118, 255];

ort.env.wasm.numThreads = 1;
ort.env.logLevel = "error";

let runtime; // loaded once
let started = false; // whether it has made a session
const sessions = {}; // by the address of the model
let stopped = 0; // occlusion maps with an id up to this one end early

const tasks = {
  // Loads the runtime and a model; the progress is in bytes of the files.
  async load({ model, runtime: url }, progress) {
    const count = counter(progress);
    runtime ??= fetchUnpacked(url, count).then((bytes) => {
      ort.env.wasm.wasmBinary = bytes;
    });
    sessions[model] ??= Promise.all([fetchUnpacked(model, count), runtime]).then(async ([bytes]) => {
      const session = await ort.InferenceSession.create(new Uint8Array(bytes), { executionProviders: ["wasm"] }).catch((error) => {
        if (!started) setTimeout(() => { throw error; }); // the page starts another worker: in this one it does not start again
        throw error;
      });
      started = true;
      return session;
    });
    try {
      await sessions[model];
    } catch (error) {
      delete sessions[model]; // tried again at the next call
      runtime = undefined;
      throw error;
    }
  },

  // Returns {size: pixels}.
  decode({ file, sizes, limits }) {
    return decode(file, sizes, limits);
  },

  // Returns the probabilities of the classes.
  async classify({ model, pixels, size }) {
    return (await run(model, [pixels], size)).slice();
  },

  // Returns an overlay, RGBA, of the importance of the pixels for a class; the progress holds the one so far.
  async occlude({ id, model, pixels, size, index, before }, progress) {
    const step = Math.max(1, roundHalfEven(size / STEPS));
    const starts = Array.from({ length: Math.ceil((size + step) / step) }, (_, place) => (place - 1) * step);
    const colour = mean(pixels);
    const drops = new Float64Array(size * size);
    const counts = new Float64Array(size * size);
    for (const [done, top] of starts.entries()) {
      const batch = starts.map((left) => covered(pixels, size, top, left, step, colour));
      const probabilities = await run(model, batch, size);
      const classes = probabilities.length / batch.length;
      starts.forEach((left, place) => {
        const drop = before - probabilities[place * classes + index];
        eachCovered(size, top, left, step, (pixel) => {
          drops[pixel] += drop;
          counts[pixel] += 1;
        });
      });
      progress({ done: done + 1, total: starts.length, overlay: overlay(drops, counts) });
      await new Promise((later) => setTimeout(later)); // lets in the message that stops it
      if (id <= stopped) return null;
    }
    return overlay(drops, counts);
  },

  stop({ last }) {
    stopped = last;
  },
};

onmessage = async ({ data }) => {
  const { id, task } = data;
  try {
    const result = await tasks[task](data, (progress) => postMessage({ id, progress }));
    postMessage({ id, result });
  } catch (error) {
    postMessage({ id, error: codeOf(error, task) });
  }
};

function codeOf(error, task) {
  if (error instanceof ImageError) return error.code;
  return task === "load" ? "connection" : "model";
}

// Returns a function that adds to what was loaded and to what there is to load, and reports both.
function counter(progress) {
  const sum = { loaded: 0, total: 0 };
  return (loaded, total = 0) => {
    sum.loaded += loaded;
    sum.total += total;
    progress(sum);
  };
}

// Returns the content of a file that is packed by gzip, which some hosts unpack themselves.
async function fetchUnpacked(url, count) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: ${response.status}`);
  count(0, Number(response.headers.get("Content-Length")));
  const parts = [];
  const reader = response.body.getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    parts.push(part.value);
    count(part.value.length);
  }
  const file = new Blob(parts);
  const [first, second] = new Uint8Array(await file.slice(0, 2).arrayBuffer());
  if (first !== 0x1f || second !== 0x8b) return file.arrayBuffer();
  return new Response(file.stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

// Returns the probabilities, (N × C), of N images.
async function run(model, images, size) {
  const session = await sessions[model];
  const values = new Float32Array(images.length * size * size * 3);
  images.forEach((image, index) => values.set(image, index * image.length));
  const input = new ort.Tensor("float32", values, [images.length, size, size, 3]);
  const output = await session.run({ [session.inputNames[0]]: input });
  return output[session.outputNames[0]].data;
}

function covered(pixels, size, top, left, step, colour) {
  const image = pixels.slice();
  eachCovered(size, top, left, step, (pixel) => image.set(colour, pixel * 3));
  return image;
}

// Calls `visit` with each pixel of a square that is two steps wide.
function eachCovered(size, top, left, step, visit) {
  for (let y = Math.max(top, 0); y < Math.min(top + 2 * step, size); y++) {
    for (let x = Math.max(left, 0); x < Math.min(left + 2 * step, size); x++) visit(y * size + x);
  }
}

function mean(pixels) {
  const sums = [0, 0, 0];
  pixels.forEach((value, index) => {
    sums[index % 3] += value;
  });
  return sums.map((sum) => roundHalfEven((sum * 3) / pixels.length));
}

function roundHalfEven(value) {
  const floor = Math.floor(value);
  return value - floor === 0.5 ? floor + (floor % 2) : Math.round(value);
}

// Returns RGBA pixels: the colour shows the sign, the opacity the magnitude; the most important pixel is opaque.
function overlay(drops, counts) {
  const values = drops.map((drop, pixel) => (counts[pixel] ? drop / counts[pixel] : 0));
  const strongest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0) || 1;
  const layer = new Uint8ClampedArray(values.length * 4);
  values.forEach((value, pixel) => {
    layer.set([...(value >= 0 ? FOR : AGAINST), roundHalfEven((255 * Math.abs(value)) / strongest)], pixel * 4);
  });
  return layer;
}
