// Keeps each file of the page that was asked for, so that the page works offline afterwards.
//
// The newest file is taken from the network where there is one; with a new page, the files of the old one are forgotten.
// Scope and cache follow the address of this file.

const CACHE = `static-page-${self.registration.scope}`;

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  if (method === "GET" && url.startsWith(self.registration.scope)) event.respondWith(answer(event.request));
});

async function answer(request) {
  const address = request.url.split(/(index\.html)?([?#]|$)/)[0];
  const cache = await caches.open(CACHE);
  // The browser's own cache is asked only with the host's consent.
  const latest = new Request(request.url, { cache: "no-cache", redirect: request.redirect });
  const response = await fetch(latest).catch(() => null);
  const failed = !response || response.status >= 500 || response.status === 429;
  if (failed) return (await cache.match(address)) ?? response ?? Response.error();
  if (response.status !== 200) return response;
  if (request.mode === "navigate") await forgetOthers(cache, address, response.clone());
  cache.put(address, response.clone()).catch(() => {}); // where the storage is full
  return response;
}

async function forgetOthers(cache, address, page) {
  const before = await (await cache.match(address))?.text();
  if (before === undefined || before === (await page.text())) return;
  for (const key of await cache.keys()) await cache.delete(key);
}
