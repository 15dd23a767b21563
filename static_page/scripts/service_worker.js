// Keeps each file of the page that was asked for, so that the page works offline afterwards.
//
// The newest file is taken from the network where there is one; scope and cache follow the address of this file.

const CACHE = `static-page-${self.registration.scope}`;

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  if (method === "GET" && url.startsWith(self.registration.scope)) event.respondWith(answer(event.request));
});

async function answer(request) {
  const cache = await caches.open(CACHE);
  try {
    const response = await fetch(request);
    if (response.ok) await cache.put(withoutQuery(request.url), response.clone());
    return response;
  } catch (error) {
    const kept = await cache.match(withoutQuery(request.url));
    if (kept) return kept;
    throw error;
  }
}

function withoutQuery(url) {
  return url.split(/[?#]/)[0];
}
