// node look.js PAGE.html CHROMIUM PICTURES: looks at a page at three widths, light and dark.
// Prints one JSON list: per look the violations that axe-core finds, console messages, requests, sizes.
const fs = require("fs");
const path = require("path");
const puppeteer = require("puppeteer-core");
const axe = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const [page, chromium, pictures] = process.argv.slice(2);
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
  const file = path.join(pictures, `${width}-${scheme}.png`);
  const height = await tab.evaluate(() => Math.min(9000, document.documentElement.scrollHeight));
  await tab.screenshot({ path: file, clip: { x: 0, y: 0, width, height }, captureBeyondViewport: true });
  await tab.screenshot({ path: path.join(pictures, `${width}-${scheme}-top.png`) });
  // What is folded is looked at too.
  await tab.evaluate(() => document.querySelectorAll("details").forEach((d) => (d.open = true)));
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
  await tab.close();
  return { width, scheme, overflow, violations, messages, requests: requests.filter((r) => r !== address), opened };
}

(async () => {
  const browser = await puppeteer.launch({
    executablePath: chromium,
    args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--host-resolver-rules=MAP * 127.0.0.1:9"],
  });
  try {
    const looks = [];
    for (const width of [360, 768, 1280])
      for (const scheme of ["light", "dark"]) looks.push(await look(browser, width, scheme));
    console.log(JSON.stringify(looks, null, 1));
  } finally {
    await browser.close();
  }
})();
