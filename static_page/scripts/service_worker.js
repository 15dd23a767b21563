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
  const address = request.url.split(/(index\.html)?([?#]|$)/)[0];
  const cache = await caches.open(CACHE);
  const response = await fetch(request).catch(() => null);
  if (!response) return (await cache.match(address)) ?? Response.error();
  if (response.status === 200) cache.put(address, response.clone()).catch(() => {}); // where the storage is full
  return response;
}
