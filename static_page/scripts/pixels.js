// Converts untrusted image files to the pixels that a model takes: the port of
// classifier/data/images.py and preprocessing.py.
//
// The browser decodes; crop, reduction and resizing follow Pillow (src/libImaging/Reduce.c and Resample.c) with its
// rounding, so that the pixels are those of `to_model_input`.

const PRECISION = 22; // bits of the integer weights
const BAND = 2 ** 20; // pixels read from the canvas at a time, to limit the memory

// An image that cannot be used; `code` is a reason of classifier.data.images.ImageError, or "browser_format" for a
// format that browsers do not decode, or "noisy_canvas".
export class ImageError extends Error {
  constructor(code) {
    super(code);
    this.code = code;
  }
}

// Returns {size: Uint8Array of size × size RGB pixels} for each of the sizes.
// `limits` holds the constants of those files: max_bytes, max_pixels, max_aspect, jpeg_side and reducing_gap, and `starts`.
export async function decode(file, sizes, limits) {
  const bytes = await read(file, limits);
  const image = identify(bytes, limits.starts);
  check(image, limits);
  const orientation = takeOrientation(bytes, image.format);
  if (!canvasIsExact()) throw new ImageError("noisy_canvas");
  // Without colour management; the orientation is applied here, since browsers differ in the formats that they turn.
  if (image.format === "PNG") hideAnimation(bytes);
  const options = { premultiplyAlpha: "none", colorSpaceConversion: "none" };
  const bitmap = await createImageBitmap(new Blob([bytes]), options).catch(() => {
    throw new ImageError("damaged");
  });
  try {
    check({ width: bitmap.width, height: bitmap.height, isWhole: true }, limits); // of what the header does not state
    const source = image.format === "JPEG" ? draft(bitmap, limits.jpeg_side) : bitmap;
    const background = image.format === "GIF" ? gifBackground(bytes) : "white";
    const read = reader(source, orientation, background);
    return Object.fromEntries(sizes.map((size) => [size, square(read, size, limits.reducing_gap)]));
  } finally {
    bitmap.close();
  }
}

async function read(file, limits) {
  if (file.size > limits.max_bytes) throw new ImageError("too_large");
  const content = await file.arrayBuffer().catch(() => {
    throw new ImageError("unreadable");
  });
  if (!content.byteLength) throw new ImageError("empty");
  return new Uint8Array(content);
}

// The width and height that the header states, of the formats that browsers decode.
const SIZES = {
  PNG: (view) => [view.getUint32(16), view.getUint32(20)],
  JPEG: jpegSize,
  GIF: gifSize,
  WebP: webpSize,
  BMP: bmpSize,
  AVIF: avifSize,
};

// Returns the format, width and height of a file; `starts` tells how files of each format begin.
function identify(bytes, starts) {
  const view = new DataView(bytes.buffer);
  const start = text(bytes, 0, 1024);
  for (const [format, pattern] of Object.entries(starts)) {
    if (!new RegExp(`^(?:${pattern})`, "s").test(start)) continue;
    if (!SIZES[format]) throw new ImageError("browser_format");
    try {
      const [width, height] = SIZES[format](view, bytes);
      return { format, width, height, isWhole: IS_WHOLE[format]?.(view, bytes) ?? true };
    } catch (error) {
      if (error instanceof RangeError) throw new ImageError("damaged"); // the file ends within its header
      throw error;
    }
  }
  const markup = start.replace(/^\xef\xbb\xbf/, "").trimStart().toLowerCase();
  const isSvg = /^(<\?xml|<svg|<!doctype svg|<!--)/.test(markup) && markup.includes("<svg");
  throw new ImageError(isSvg ? "vector" : "unknown_format");
}

function jpegSize(view, bytes) {
  for (const { marker, start } of jpegSegments(bytes, view)) {
    const isFrame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
    if (isFrame) return [view.getUint16(start + 3), view.getUint16(start + 1)];
  }
  throw new ImageError("damaged");
}

// Yields the segments before the pixels: `start` is the first byte of their content, `end` the byte after it.
function* jpegSegments(bytes, view) {
  let position = 2;
  while (position + 4 <= bytes.length) {
    const marker = bytes[position + 1];
    const isFilling = bytes[position] !== 0xff || marker === 0xff;
    const hasNoLength = marker <= 0x01 || (marker >= 0xd0 && marker <= 0xd8);
    if (marker === 0xda || marker === 0xd9) return;
    if (isFilling) position += 1;
    else if (hasNoLength) position += 2;
    else {
      const end = position + 2 + view.getUint16(position + 2);
      yield { marker, start: position + 4, end };
      position = end;
    }
  }
}

// Whether a file is whole, of the formats of which some browsers show the part that they can read.
const IS_WHOLE = {
  PNG(view, bytes) {
    let [chunk, name] = [8, ""];
    while (name !== "IEND" && chunk + 12 <= bytes.length) {
      const end = chunk + 8 + view.getUint32(chunk);
      name = text(bytes, chunk + 4, 4);
      // Critical chunks, whose names begin with a capital, must have their checksum.
      if (name < "a" && crc32(bytes.subarray(chunk + 4, end)) !== view.getUint32(end)) return false;
      chunk = end + 4;
    }
    return name === "IEND";
  },
  JPEG(view, bytes) {
    let at = bytes.indexOf(0xff, [...jpegSegments(bytes, view)].at(-1).end);
    while (at >= 0 && bytes[at + 1] !== 0xd9) at = bytes.indexOf(0xff, at + 1);
    return at >= 0;
  },
  GIF(view, bytes) {
    let at = 13 + gifTable(bytes[10]);
    for (let isImage = false; !isImage && at < bytes.length; at += 1) {
      isImage = bytes[at] === 0x2c;
      at += isImage ? 11 + gifTable(bytes[at + 9]) : 2;
      while (bytes[at]) at += 1 + bytes[at];
    }
    return at <= bytes.length;
  },
  BMP(view, bytes) {
    const isOld = view.getUint32(14, true) === 12;
    const isCompressed = !isOld && [1, 2].includes(view.getUint32(30, true));
    const [width, height] = bmpSize(view);
    const row = 4 * Math.ceil((width * view.getUint16(isOld ? 24 : 28, true)) / 32);
    // The size that the file states of itself counts only where its rows have no fixed length.
    const end = isCompressed ? view.getUint32(2, true) : view.getUint32(10, true) + row * height;
    return end <= bytes.length;
  },
};

const REMAINDERS = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit += 1) byte = byte & 1 ? (byte >>> 1) ^ 0xedb88320 : byte >>> 1;
  return byte;
});
function crc32(bytes) {
  let sum = -1;
  for (const byte of bytes) sum = (sum >>> 8) ^ REMAINDERS[(sum ^ byte) & 0xff];
  return ~sum >>> 0;
}

function webpSize(view) {
  const bits = view.getUint32(21, true);
  const longer = (at) => 1 + view.getUint16(at, true) + (view.getUint8(at + 2) << 16);
  const sizes = {
    X: () => [longer(24), longer(27)],
    L: () => [1 + (bits & 0x3fff), 1 + ((bits >> 14) & 0x3fff)],
    " ": () => [view.getUint16(26, true) & 0x3fff, view.getUint16(28, true) & 0x3fff],
  };
  return (sizes[String.fromCharCode(view.getUint8(15))] ?? sizes[" "])();
}

function bmpSize(view) {
  if (view.getUint32(14, true) === 12) return [view.getUint16(18, true), view.getUint16(20, true)];
  return [view.getInt32(18, true), view.getInt32(22, true)].map(Math.abs);
}

// The largest of the sizes that a file states: those of its thumbnails and tiles are smaller.
function avifSize(view, bytes) {
  let found = [{ start: 0, end: bytes.length }];
  for (const [name, header] of [["meta", 4], ["iprp", 0], ["ipco", 0], ["ispe", 4]]) {
    const inside = found.flatMap(({ start, end }) => [...boxes(view, bytes, start, end)]);
    found = inside.filter((box) => box.name === name).map((box) => ({ start: box.start + header, end: box.end }));
  }
  const sizes = found.map(({ start }) => [view.getUint32(start), view.getUint32(start + 4)]);
  return sizes.reduce((one, other) => (one[0] * one[1] > other[0] * other[1] ? one : other), [0, 0]);
}

// Yields the boxes of an ISO media file: `start` is the first byte of their content, `end` the byte after it.
function* boxes(view, bytes, start, end) {
  for (let at = start, size; at + 8 <= end; at += size) {
    const isLong = view.getUint32(at) === 1;
    size = (isLong ? Number(view.getBigUint64(at + 8)) : view.getUint32(at)) || end - at;
    if (size < 8) return;
    yield { name: text(bytes, at + 4, 4), start: at + (isLong ? 16 : 8), end: Math.min(at + size, end) };
  }
}

function check({ width, height, isWhole }, limits) {
  if (width < 1 || height < 1) throw new ImageError("damaged");
  if (Math.max(width, height) > limits.max_aspect * Math.min(width, height)) throw new ImageError("too_narrow");
  if (width * height > limits.max_pixels) throw new ImageError("too_many_pixels");
  if (!isWhole) throw new ImageError("damaged");
}

// Returns the colour of what the first frame does not cover, as Pillow: the first of its palette, or white if the frame
// is transparent.
function gifBackground(bytes) {
  const { at, isTransparent } = gifFrame(bytes);
  if (isTransparent) return "white";
  const palette = bytes[at + 9] & 0x80 ? at + 10 : bytes[10] & 0x80 ? 13 : 0;
  return `rgb(${palette ? bytes.subarray(palette, palette + 3).join(" ") : "0 0 0"})`;
}

// Returns where the description of the first frame begins, and whether it is transparent.
function gifFrame(bytes) {
  let [at, isTransparent] = [13 + gifTable(bytes[10]), false];
  while (at < bytes.length && bytes[at] !== 0x2c) {
    isTransparent ||= bytes[at] === 0x21 && bytes[at + 1] === 0xf9 && Boolean(bytes[at + 3] & 1);
    at += 2;
    while (bytes[at]) at += 1 + bytes[at];
    at += 1;
  }
  return { at, isTransparent };
}

const gifTable = (flags) => (flags & 0x80 ? 6 << (flags & 7) : 0); // bytes of a palette

// The size of the screen, which a first frame that is larger enlarges.
function gifSize(view, bytes) {
  const { at } = gifFrame(bytes);
  const end = (axis) => view.getUint16(at + 1 + axis, true) + view.getUint16(at + 5 + axis, true);
  return [0, 2].map((axis) => Math.max(view.getUint16(6 + axis, true), end(axis)));
}

// Returns the orientation, 1 to 8, from a file's EXIF metadata, and changes it to 1 there.
function takeOrientation(bytes, format) {
  const view = new DataView(bytes.buffer);
  try {
    const head = exifStart(bytes, view, format);
    if (head === null) return 1;
    const start = text(bytes, head, 6) === "Exif\0\0" ? head + 6 : head;
    const little = text(bytes, start, 2) === "II";
    const directory = start + view.getUint32(start + 4, little);
    const count = view.getUint16(directory, little);
    for (let entry = directory + 2; entry < directory + 2 + 12 * count; entry += 12) {
      const [tag, type] = [view.getUint16(entry, little), view.getUint16(entry + 2, little)];
      if (tag !== 0x0112 || (type !== 3 && type !== 4)) continue; // 16 or 32 bits
      const value = type === 3 ? view.getUint16(entry + 8, little) : view.getUint32(entry + 8, little);
      if (type === 3) view.setUint16(entry + 8, 1, little);
      else view.setUint32(entry + 8, 1, little);
      return value >= 1 && value <= 8 ? value : 1;
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // damaged metadata does not make the pixels unusable
  }
  return 1;
}

function exifStart(bytes, view, format) {
  if (format === "JPEG") {
    for (const { marker, start } of jpegSegments(bytes, view)) {
      if (marker === 0xe1 && text(bytes, start, 6) === "Exif\0\0") return start;
    }
  }
  if (format === "PNG") return pngChunk(bytes, view, "eXIf");
  if (format === "WebP") {
    for (let chunk = 12; chunk + 8 <= bytes.length; ) {
      const length = view.getUint32(chunk + 4, true);
      if (text(bytes, chunk, 4) === "EXIF") return chunk + 8;
      chunk += 8 + length + (length % 2);
    }
  }
  return null;
}

// Returns where the content of the first chunk of a name begins, null without one.
function pngChunk(bytes, view, name) {
  for (let chunk = 8; chunk + 12 <= bytes.length; chunk += 12 + view.getUint32(chunk)) {
    if (text(bytes, chunk + 4, 4) === name) return chunk + 8;
  }
  return null;
}

// Renames what makes a PNG an animation: its picture need not be the first frame, which browsers would show.
function hideAnimation(bytes) {
  const start = pngChunk(bytes, new DataView(bytes.buffer), "acTL");
  if (start !== null) bytes[start - 4] = "z".charCodeAt(0);
}

function text(bytes, start, length) {
  return String.fromCharCode(...bytes.subarray(start, start + length));
}

// Returns whether pixels are read as they were written: some browsers add noise, against fingerprinting.
let exact;
function canvasIsExact() {
  if (exact) return true;
  const pattern = Uint8ClampedArray.from({ length: 64 * 64 * 4 }, (_, index) => (index % 4 === 3 ? 255 : (index * 37) % 256));
  const context = new OffscreenCanvas(64, 64).getContext("2d", { willReadFrequently: true });
  context.putImageData(new ImageData(pattern, 64, 64), 0, 0);
  exact = context.getImageData(0, 0, 64, 64).data.every((value, index) => value === pattern[index]);
  return exact;
}

// Returns what Pillow decodes a large JPEG to: at 1/2, 1/4 or 1/8 of its size.
function draft(bitmap, side) {
  const ratio = Math.floor(Math.min(bitmap.width, bitmap.height) / side);
  const scale = [8, 4, 2].find((value) => ratio >= value);
  if (!scale) return bitmap;
  const { readPixels } = reader(bitmap, 1, "white");
  const { data, width, height } = reduce(readPixels, 0, 0, bitmap.width, bitmap.height, scale);
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d", { willReadFrequently: true }).putImageData(new ImageData(data, width, height), 0, 0);
  return canvas;
}

// Returns size × size RGB pixels of the largest centred square of an image.
function square({ width, height, readPixels }, size, gap) {
  const side = Math.min(width, height);
  const [left, top] = [Math.floor((width - side) / 2), Math.floor((height - side) / 2)];
  const factor = Math.max(1, Math.floor(side / size / gap));
  const reduced = reduce(readPixels, left, top, side, side, factor);
  let pixels = reduced.data;
  if (side !== size) {
    const extent = Math.fround(side / factor); // Pillow's box has single precision
    const rows = resize(pixels, reduced.width, reduced.height, size, extent);
    pixels = resize(rows, reduced.height, size, size, extent);
  }
  return Uint8Array.from({ length: size * size * 3 }, (_, index) => pixels[Math.floor(index / 3) * 4 + (index % 3)]);
}

// Returns the size of an image that is turned by its orientation, and a function that reads a rectangle of it, on a
// background: RGBA.
function reader(source, orientation, background) {
  const { width: w, height: h } = source;
  const [width, height] = orientation < 5 ? [w, h] : [h, w];
  const turn = [[1, 0, 0, 1, 0, 0], [-1, 0, 0, 1, w, 0], [-1, 0, 0, -1, w, h], [1, 0, 0, -1, 0, h],
    [0, 1, 1, 0, 0, 0], [0, 1, -1, 0, h, 0], [0, -1, -1, 0, h, w], [0, -1, 1, 0, 0, w]][orientation - 1];
  const readPixels = (left, top, width, height) => {
    const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    context.imageSmoothingEnabled = false;
    context.fillStyle = background;
    context.fillRect(0, 0, width, height);
    context.setTransform(...turn.slice(0, 4), turn[4] - left, turn[5] - top);
    context.drawImage(source, 0, 0);
    return context.getImageData(0, 0, width, height).data;
  };
  return { width, height, readPixels };
}

// Averages blocks of factor × factor pixels of a rectangle: {data (RGBA), width, height}. Blocks at its right and lower
// edges may be smaller.
function reduce(readPixels, left, top, width, height, factor) {
  const result = { width: Math.ceil(width / factor), height: Math.ceil(height / factor) };
  result.data = new Uint8ClampedArray(result.width * result.height * 4);
  const band = factor * Math.max(1, Math.floor(BAND / (width * factor)));
  for (let y = 0; y < height; y += band) {
    const rows = Math.min(band, height - y);
    average(readPixels(left, top + y, width, rows), width, rows, factor, result.data.subarray((y / factor) * result.width * 4));
  }
  return result;
}

function average(pixels, width, height, factor, output) {
  let at = 0;
  for (let y = 0; y < height; y += factor) {
    const bottom = Math.min(y + factor, height);
    for (let x = 0; x < width; x += factor) {
      const right = Math.min(x + factor, width);
      const count = (right - x) * (bottom - y);
      const multiplier = Math.floor(Math.fround(2 ** 32 / Math.fround(256 * count)));
      let red = count >> 1, green = red, blue = red;
      for (let row = y; row < bottom; row++) {
        for (let index = (row * width + x) * 4, end = (row * width + right) * 4; index < end; index += 4) {
          red += pixels[index];
          green += pixels[index + 1];
          blue += pixels[index + 2];
        }
      }
      output[at++] = Math.floor((red * multiplier) / 2 ** 24);
      output[at++] = Math.floor((green * multiplier) / 2 ** 24);
      output[at++] = Math.floor((blue * multiplier) / 2 ** 24);
      output[at++] = 255;
    }
  }
}

// Resizes the rows of RGBA pixels with a bicubic filter and exchanges rows and columns, so that a second call resizes
// the columns: (height, width) becomes (size, height). `extent` is the part of the width that is used, from the left.
function resize(pixels, width, height, size, extent) {
  const output = new Uint8ClampedArray(size * height * 4);
  const scale = extent / size;
  for (let x = 0; x < size; x++) {
    const { first, weights } = filter((x + 0.5) * scale, Math.max(scale, 1), width);
    for (let y = 0; y < height; y++) {
      for (let channel = 0; channel < 4; channel++) {
        let sum = 1 << (PRECISION - 1);
        let index = (y * width + first) * 4 + channel;
        for (const weight of weights) {
          sum += weight * pixels[index];
          index += 4;
        }
        output[(x * height + y) * 4 + channel] = sum >> PRECISION; // clamped to 0–255
      }
    }
  }
  return output;
}

// Returns the weights of the pixels around a centre, as integers, and the place of the first.
function filter(center, scale, width) {
  const first = Math.max(0, Math.trunc(center - 2 * scale + 0.5));
  const end = Math.min(width, Math.trunc(center + 2 * scale + 0.5));
  const shares = Array.from({ length: end - first }, (_, index) => bicubic((index + first - center + 0.5) * (1 / scale)));
  const total = shares.reduce((sum, share) => sum + share, 0);
  const weights = shares.map((share) => Math.trunc((share / total) * 2 ** PRECISION + (share / total < 0 ? -0.5 : 0.5)));
  return { first, weights };
}

function bicubic(distance) {
  const a = -0.5;
  const x = Math.abs(distance);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}
