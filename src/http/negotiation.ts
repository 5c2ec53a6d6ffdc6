/** Accept: whether the client takes the only representation there is. */

import type { FastifyInstance } from "fastify";
import Negotiator from "negotiator";
import { errors } from "../errors.ts";
import { problemType } from "./problem.ts";

const offered = ["application/json"];

/** Answers 406 to a client that takes no JSON; for the routes that are added to this instance. */
export function negotiate(app: FastifyInstance): void {
  app.addHook("onRequest", async (request) => {
    const { accept } = request.headers;
    if (accept === undefined || accept.trim() === "" || accept === "*/*" || accept === "application/json") return;
    // A client that asks for problems alone still gets what it came for: generated clients send such a header.
    if (new Negotiator(request.raw).mediaTypes([...offered, problemType]).length === 0) {
      throw errors.notAcceptable(offered);
    }
  });
}
