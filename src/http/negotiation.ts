/** Accept: whether the client takes the only representation there is. */

import type { FastifyInstance, FastifyRequest } from "fastify";
import Negotiator from "negotiator";
import { errors } from "../errors.ts";
import { problemType } from "./problem.ts";

declare module "fastify" {
  interface FastifyContextConfig {
    /** The types of the route's answers, where that is not JSON. */
    readonly offers?: readonly string[];
  }
}

const json = ["application/json"];

/** Answers 406 to a client that takes nothing of what a route offers; for the routes that are added to this instance. */
export function negotiate(app: FastifyInstance): void {
  app.addHook("onRequest", (request, _reply, done) => {
    const offered = request.routeOptions.config.offers ?? json;
    done(isTaken(request, offered) ? undefined : errors.notAcceptable(offered));
  });
}

function isTaken({ headers: { accept }, raw }: FastifyRequest, offered: readonly string[]): boolean {
  if (accept === undefined || accept.trim() === "" || accept === "*/*" || offered.includes(accept)) return true;
  // A client that asks for problems alone still gets what it came for: generated clients send such a header.
  return new Negotiator(raw).mediaTypes([...offered, problemType]).length > 0;
}
