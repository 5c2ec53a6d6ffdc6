/*
 * Makes what is not there yet, then runs the command line: the build, when the sources are newer than it, and the
 * driver's patch, which npm applies unless it was told to run no scripts.
 */
"use strict";

const { spawnSync } = require("node:child_process");
const fs = require("node:fs");
const path = require("node:path");
const { pathToFileURL } = require("node:url");

const root = path.join(__dirname, "..");

function fail(message) {
  process.stderr.write(`${message}\n`);
  process.exit(1);
}

function runTool(packageName, binName, args) {
  const manifest = require.resolve(`${packageName}/package.json`, { paths: [root] });
  const { bin } = JSON.parse(fs.readFileSync(manifest, "utf8"));
  const script = path.join(path.dirname(manifest), typeof bin === "string" ? bin : bin[binName]);
  const done = spawnSync(process.execPath, [script, ...args], { cwd: root, encoding: "utf8" });
  if (done.status !== 0) fail(`${binName} failed:\n${done.stdout ?? ""}${done.stderr ?? done.error ?? ""}`);
}

/** See docs/decisions/0006: without the patch a restart of PostgreSQL can crash the process. */
function patchDriver() {
  const driver = path.join(root, "node_modules/postgres/src/connection.js");
  if (!fs.readFileSync(driver, "utf8").includes("socket === null || socket.write")) {
    runTool("patch-package", "patch-package", []);
  }
}

function newestChange(folder) {
  return fs
    .readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .reduce((newest, entry) => Math.max(newest, fs.statSync(path.join(entry.parentPath, entry.name)).mtimeMs), 0);
}

/** What is left of builds that were killed in the midst. */
function removeDeadBuilds() {
  for (const name of fs.readdirSync(root)) {
    const pid = Number(/^\.dist-(\d+)(?:-old)?$/.exec(name)?.[1]);
    if (!(pid > 0) || isAlive(pid)) continue;
    fs.rmSync(path.join(root, name), { recursive: true, force: true });
  }
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === "EPERM";
  }
}

function build() {
  const source = path.join(root, "src");
  const stamp = path.join(root, "dist/.built");
  // A container image carries the build alone.
  if (!fs.existsSync(source)) return;
  const isFresh = () => fs.existsSync(stamp) && fs.statSync(stamp).mtimeMs >= changed;
  const changed = Math.max(newestChange(source), fs.statSync(path.join(root, "tsconfig.build.json")).mtimeMs);
  if (isFresh()) return;
  process.stderr.write("Building …\n");
  removeDeadBuilds();
  // Built aside and moved in whole: of two that start at once the first one's build stays, and the other's goes.
  const began = new Date();
  const built = path.join(root, `.dist-${process.pid}`);
  runTool("typescript", "tsc", ["-p", "tsconfig.build.json", "--outDir", built]);
  fs.writeFileSync(path.join(built, ".built"), "");
  fs.utimesSync(path.join(built, ".built"), began, began);
  const old = `${built}-old`;
  try {
    if (!isFresh()) {
      if (fs.existsSync(path.join(root, "dist"))) fs.renameSync(path.join(root, "dist"), old);
      fs.renameSync(built, path.join(root, "dist"));
    }
  } catch {
    // The other one was quicker.
  }
  for (const leftOver of [built, old]) fs.rmSync(leftOver, { recursive: true, force: true });
}

patchDriver();
build();

void import(pathToFileURL(path.join(root, "dist/cli.js")).href)
  .then((cli) => cli.run(process.argv.slice(2), require("../package.json").version))
  .then((code) => {
    process.exitCode = code;
    // A connection to a server that is frozen would keep the process alive for as long as that is.
    setTimeout(() => process.exit(code), 500).unref();
  });
