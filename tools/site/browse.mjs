// Every page in a real browser: node tools/site/browse.mjs build/site/VERSION [FOLDER for screenshots [PART of a page's name]]
// Needs: npm install playwright-core axe-core; Debian's chromium (or CHROMIUM=path). Exit code 1 if a page scrolls sideways, says
// something on the console, asks for what is not there, or has text under 4.5 : 1 in contrast (axe).
import { createServer } from "node:http";
import { readFile, readdir, mkdir } from "node:fs/promises";
import { createRequire } from "node:module";
import { join, extname, relative } from "node:path";

const need = createRequire(join(process.cwd(), "x.js"));
const { chromium } = need("playwright-core");
const axe = await readFile(need.resolve("axe-core/axe.min.js"), "utf8");
const [root, shots, only = ""] = process.argv.slice(2);
const types = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".png": "image/png", ".webp": "image/webp", ".json": "application/json" };
const server = createServer(async (request, response) => {
  const path = decodeURIComponent(new URL(request.url, "http://x").pathname);
  try {
    const body = path === "/versions.json" ? await readFile(join(root, "..", "versions.json")) : await readFile(join(root, path.replace(/^\/site\//, "/")));
    response.writeHead(200, { "content-type": types[extname(path)] ?? "application/octet-stream" }).end(body);
  } catch { response.writeHead(404).end(); }
});
await new Promise((done) => server.listen(0, "127.0.0.1", done));
const home = `http://127.0.0.1:${server.address().port}/site/`;

async function* pages(folder) {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) yield* pages(path);
    else if (entry.name.endsWith(".html")) yield relative(root, path);
  }
}

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
if (shots) await mkdir(shots, { recursive: true });
let wrong = 0;
for (const colorScheme of ["light", "dark"]) {
  for (const width of [1280, 390]) {
    const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme });
    for await (const name of pages(root)) {
      if (name === "404.html" || !name.includes(only)) continue;
      const page = await context.newPage();
      const said = [];
      let bytes = 0;
      page.on("console", (message) => ["error", "warning"].includes(message.type()) && said.push(message.text()));
      page.on("pageerror", (error) => said.push(String(error)));
      page.on("response", async (r) => {
        if (r.status() >= 400) said.push(`${r.status()} ${r.url()}`);
        else if (!/image|json/.test(r.headers()["content-type"] ?? "")) bytes += (await r.body().catch(() => "")).length;
      });
      await page.goto(home + name.split("\\").join("/"), { waitUntil: "load" });
      const sideways = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      if (sideways > 0) said.push(`scrolls sideways by ${sideways} px`);
      await page.evaluate(axe);
      // Contrast and names don't change with the width.
      const found = width < 1000 ? { violations: [] } : await page.evaluate(() => axe.run(document, { runOnly: ["color-contrast", "image-alt", "label", "button-name", "link-name", "scrollable-region-focusable"] }));
      for (const violation of found.violations) {
        const nodes = violation.nodes.map((n) => `${n.target.join(" ")} ${n.any[0]?.data?.contrastRatio ?? ""}`);
        said.push(`${violation.id} ×${nodes.length}: ${[...new Set(nodes)].slice(0, 3).join("; ")}`);
      }
      if (shots) await page.screenshot({ path: join(shots, `${name.replaceAll("/", "_")}-${width}-${colorScheme}.png`) });
      if (name === "index.html" && width === 1280) console.log(`first page: ${(bytes / 1000).toFixed(0)} kB without figures`);
      if (said.length) { wrong += 1; console.log(`${name} ${width} ${colorScheme}\n  ${said.join("\n  ")}`); }
      await page.close();
    }
    await context.close();
  }
}
await browser.close();
server.close();
console.log(wrong ? `${wrong} pages with something wrong` : "nothing wrong");
process.exit(wrong ? 1 : 0);
