/** What no route answers: 405 with the methods that the path takes, or 404. */

import type { FastifyInstance } from "fastify";
import { errors } from "../errors.ts";
import { pathOf, sendProblem } from "./problem.ts";

interface KnownPath {
  readonly pattern: RegExp;
  readonly methods: Set<string>;
}

/** Must be called before the routes are added. */
export function answerOtherMethods(app: FastifyInstance): void {
  const paths = new Map<string, KnownPath>();
  app.addHook("onRoute", ({ url, method }) => {
    if (url.includes("*")) return;
    const trimmed = url.replace(/\/+$/, "");
    const known = paths.get(trimmed) ?? {
      pattern: new RegExp(`^${trimmed.replace(/[.+()]/g, "\\$&").replace(/:\w+/g, "[^/]+")}/?$`),
      methods: new Set(),
    };
    for (const one of [method].flat()) known.methods.add(one);
    paths.set(trimmed, known);
  });
  app.setNotFoundHandler((request, reply) => {
    const path = pathOf(request.url);
    const allowed = [...paths.values()].find((known) => known.pattern.test(path))?.methods;
    const problem =
      allowed === undefined
        ? errors.routeNotFound(request.method, path)
        : errors.methodNotAllowed(request.method, [...allowed].sort());
    return sendProblem(request, reply, problem);
  });
}
