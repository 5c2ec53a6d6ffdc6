#!/usr/bin/env node
/*
 * The first file that runs. Any Node.js since 0.10 can parse it, so that one that is too old is told so, and not shown a
 * syntax error.
 */
"use strict";

var needed = /(\d+)\.(\d+)/.exec(require("../package.json").engines.node);
var running = /^v(\d+)\.(\d+)/.exec(process.version);

if (+running[1] < +needed[1] || (+running[1] === +needed[1] && +running[2] < +needed[2])) {
  process.stderr.write(
    "The session service needs Node.js " +
      needed[0] +
      " or newer; this is " +
      process.version +
      ". See https://nodejs.org\n"
  );
  process.exit(1);
}

require("./start.cjs");
