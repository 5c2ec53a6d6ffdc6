#!/usr/bin/env node
/*
 * The first file that runs. It is written for any Node.js, so that one that is too old is told so; it builds what is not
 * built yet, and mends what an install without scripts left undone.
 */
"use strict";

var fs = require("fs");
var path = require("path");
var spawnSync = require("child_process").spawnSync;

var root = path.join(__dirname, "..");
var manifest = JSON.parse(fs.readFileSync(path.join(root, "package.json"), "utf8"));
var needed = /(\d+)\.(\d+)/.exec(manifest.engines.node);
var running = /^v(\d+)\.(\d+)/.exec(process.version);

function fail(message) {
  process.stderr.write(message + "\n");
  process.exit(1);
}

if (+running[1] < +needed[1] || (+running[1] === +needed[1] && +running[2] < +needed[2])) {
  fail(
    "The session service needs Node.js " +
      needed[0] +
      " or newer; this is " +
      process.version +
      ". See https://nodejs.org",
  );
}

function runTool(name, args) {
  var packageJson = require.resolve(name + "/package.json", { paths: [root] });
  var bin = JSON.parse(fs.readFileSync(packageJson, "utf8")).bin;
  var script = path.join(
    path.dirname(packageJson),
    typeof bin === "string" ? bin : bin[name === "typescript" ? "tsc" : name],
  );
  var done = spawnSync(process.execPath, [script].concat(args), { cwd: root, encoding: "utf8" });
  if (done.status !== 0) fail(name + " failed:\n" + (done.stdout || "") + (done.stderr || done.error || ""));
}

/** The driver's patch (patches/) is applied by npm's postinstall, which --ignore-scripts skips. */
function patchDriver() {
  var driver = path.join(root, "node_modules/postgres/src/connection.js");
  if (fs.existsSync(driver) && fs.readFileSync(driver, "utf8").indexOf("socket === null || socket.write") < 0) {
    runTool("patch-package", []);
  }
}

function newest(folder) {
  return fs.readdirSync(folder).reduce((latest, name) => {
    var file = path.join(folder, name);
    var stat = fs.statSync(file);
    return Math.max(latest, stat.isDirectory() ? newest(file) : stat.mtimeMs);
  }, 0);
}

function build() {
  var source = path.join(root, "src");
  var stamp = path.join(root, "dist/.built");
  if (!fs.existsSync(source)) return;
  var changed = Math.max(newest(source), fs.statSync(path.join(root, "tsconfig.build.json")).mtimeMs);
  if (fs.existsSync(stamp) && fs.statSync(stamp).mtimeMs >= changed) return;
  process.stderr.write("Building …\n");
  fs.rmSync(path.join(root, "dist"), { recursive: true, force: true });
  runTool("typescript", ["-p", "tsconfig.build.json"]);
  fs.writeFileSync(stamp, "");
}

patchDriver();
build();

import(require("url").pathToFileURL(path.join(root, "dist/cli.js")).href)
  .then((cli) => cli.run(process.argv.slice(2), manifest.version))
  .then((code) => {
    process.exitCode = code;
  });
