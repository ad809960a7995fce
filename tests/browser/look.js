// node look.js PAGE.html CHROMIUM FOLDER [pictures | =TITLE]: looks at a page at three widths, light and dark.
// With a title it makes one picture, of the sections whose titles begin so, below each other: section.png.
// Prints one JSON list: per look the violations that axe-core finds, console messages, requests, sizes.
const fs = require("fs");
const path = require("path");
const puppeteer = require("puppeteer-core");
const axe = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const [page, chromium, pictures, only] = process.argv.slice(2);
const address = "file://" + path.resolve(page);

async function look(browser, width, scheme) {
  const tab = await browser.newPage();
  const messages = [], requests = [];
  tab.on("console", (m) => messages.push(`${m.type()}: ${m.text()}`));
  tab.on("pageerror", (e) => messages.push(`error: ${e}`));
  tab.on("request", (r) => requests.push(r.url()));
  await tab.setViewport({ width, height: 900 });
  await tab.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  await tab.goto(address, { waitUntil: "load", timeout: 120000 });
  const overflow = await tab.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  const whole = await tab.evaluate(() => document.documentElement.scrollHeight);
  const file = path.join(pictures, `${width}-${scheme}.png`);
  const height = await tab.evaluate(() => Math.min(9000, document.documentElement.scrollHeight));
  await tab.screenshot({ path: file, clip: { x: 0, y: 0, width, height }, captureBeyondViewport: true });
  if (only) return tab.close();
  await tab.screenshot({ path: path.join(pictures, `${width}-${scheme}-top.png`) });
  // What is folded is looked at too; of the runs, which are all alike, the first ones.
  await tab.evaluate(() => document.querySelectorAll("details:not(.run)").forEach((d) => (d.open = true)));
  await tab.evaluate(() => [...document.querySelectorAll("details.run")].slice(0, 3).forEach((d) => (d.open = true)));
  await tab.evaluate(axe);
  const found = await tab.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
  const violations = found.violations.map((v) => `${v.id}: ${v.nodes.length}x ${v.nodes[0].html.slice(0, 200)}`);
  await tab.evaluate(() => document.querySelectorAll("details").forEach((d) => (d.open = false)));
  const link = await tab.evaluate(() => {
    const to = document.querySelector('.runs a[href^="#"]');
    if (!to) return null;
    to.click();
    return to.getAttribute("href").slice(1);
  });
  await new Promise((done) => setTimeout(done, 100));
  const opened = link && (await tab.evaluate((id) => document.getElementById(id).closest("details").open, link));
  const used = await tab.evaluate(use);
  await tab.close();
  return { width, scheme, overflow, height: whole, ...used, violations, messages, requests: requests.filter((r) => r !== address && !r.startsWith("data:")), opened };
}

// What the page's own script does, as a reader would use it. Runs in the page.
async function use() {
  const all = (what) => [...document.querySelectorAll(what)];
  const visible = (element) => element.getClientRects().length > 0;
  const type = (text) => {
    const field = document.querySelector("input[type=search]");
    field.value = text;
    field.dispatchEvent(new Event("input"));
  };
  type("detr-5scale p4-train");
  const runs = all("[data-state]:not([hidden])").length;
  type("swinl default");
  const rows = all(".heat tbody tr").filter(visible).length;
  type("");
  const restored = all("[data-state]:not([hidden])").length;
  const table = document.querySelector("table.ap");
  table.tHead.rows[0].cells[1].querySelector("button")?.click();
  const sorted = [...table.tBodies[0].rows].map((row) => parseFloat(row.cells[1].textContent.match(/[\d.]+/)));
  const chart = document.querySelector("svg.chart"), box = chart.getBoundingClientRect();
  const at = { clientX: box.left + box.width / 2, clientY: box.top + box.height / 2, bubbles: true };
  chart.dispatchEvent(new PointerEvent("pointermove", at));
  const tip = document.querySelector(".tip:not([hidden])")?.textContent ?? "";
  return { filtered: { runs, rows, restored }, sorted, tip, copies: all("button.copy").length };
}

// The first sheet, as it is printed on A4 at 96 dots per inch.
async function print(browser) {
  const tab = await browser.newPage();
  await tab.setViewport({ width: 794, height: 1123 });
  await tab.emulateMediaType("print");
  await tab.goto(address, { waitUntil: "load" });
  await tab.screenshot({ path: path.join(pictures, "print.png") });
  await tab.close();
}

// The sections of a title as a wide light window shows them.
async function sections(browser, title) {
  const tab = await browser.newPage();
  await tab.setViewport({ width: 1100, height: 100 });
  await tab.goto(address, { waitUntil: "load" });
  await tab.evaluate((begin) => {
    const kept = (section) => section.querySelector("h2").textContent.startsWith(begin);
    document.querySelectorAll("header, footer, .toolbar").forEach((e) => e.remove());
    document.querySelectorAll("main > section").forEach((e) => kept(e) || e.remove());
  }, title);
  await tab.screenshot({ path: path.join(pictures, "section.png"), fullPage: true });
  await tab.close();
}

(async () => {
  const browser = await puppeteer.launch({
    executablePath: chromium,
    args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--host-resolver-rules=MAP * 127.0.0.1:9"],
  });
  try {
    if (only?.startsWith("=")) return await sections(browser, only.slice(1));
    const looks = [];
    for (const width of [360, 768, 1280])
      for (const scheme of ["light", "dark"]) looks.push(await look(browser, width, scheme));
    if (only) await print(browser);
    console.log(JSON.stringify(looks, null, 1));
  } finally {
    await browser.close();
  }
})();
