/**
 * Who may call at all: the Host a request was sent to, the web page it comes from, and its key.
 *
 * A browser sends form and text bodies across origins without asking, and these are read as JSON here; and a web page
 * can make its own name resolve to 127.0.0.1. So both headers are looked at before anything else.
 */

import { createHash, timingSafeEqual } from "node:crypto";
import type { FastifyInstance, FastifyRequest } from "fastify";
import type { Config } from "../config.ts";
import { errors } from "../errors.ts";
import type { ServiceError } from "../service-error.ts";
import { pathOf } from "./problem.ts";

const safeMethods = new Set(["GET", "HEAD", "OPTIONS"]);

/** Adds the guards of the contract, for every path, known or not. */
export function guard(app: FastifyInstance, config: Config): void {
  const isAllowedHost = hostCheck(config.ALLOWED_HOSTS);
  const isAllowedOrigin = new Set(config.CORS_ORIGINS);
  const isKey = keyCheck(config.API_KEYS);
  const refusalOf = (request: FastifyRequest): ServiceError | undefined => {
    if (!isAllowedHost(request)) return errors.misdirectedRequest(request.headers.host ?? "");
    const origin = safeMethods.has(request.method) ? undefined : foreignOrigin(request, isAllowedOrigin);
    if (origin !== undefined) return errors.originForbidden(origin);
    return isKey(request) || isHealth(request) || isPreflight(request) ? undefined : errors.unauthorized();
  };
  app.addHook("onRequest", (request, _reply, done) => done(refusalOf(request)));
}

function isHealth(request: FastifyRequest): boolean {
  return /^\/health(\/|$)/.test(pathOf(request.url));
}

/** A CORS preflight carries no credentials, by design. */
function isPreflight({ method, headers }: FastifyRequest): boolean {
  return method === "OPTIONS" && headers["access-control-request-method"] !== undefined;
}

function isLoopback(name: string): boolean {
  return name === "localhost" || name.endsWith(".localhost") || name === "[::1]" || /^127(\.\d{1,3}){3}$/.test(name);
}

/**
 * A request that came in over loopback must name the service by a loopback name, or one that is allowed. Elsewhere names
 * matter only once some are configured; health probes then go by address, and are let in.
 */
function hostCheck(allowed: readonly string[]): (request: FastifyRequest) => boolean {
  const names = new Set(allowed.map((name) => name.toLowerCase()));
  return (request) => {
    const host = (request.headers.host ?? "").toLowerCase();
    const name = host.replace(/:\d*$/, "");
    if (host === "" || isLoopback(name) || names.has(name) || names.has(host)) return true;
    const local = request.socket.localAddress?.replace(/^::ffff:/, "") ?? "";
    if (isLoopback(local) || local === "::1") return false;
    return names.size === 0 || isHealth(request);
  };
}

/** The origin of the web page that a request comes from, when that may not write. */
function foreignOrigin(request: FastifyRequest, allowed: ReadonlySet<string>): string | undefined {
  const { origin, host } = request.headers;
  if (origin !== undefined && allowed.has(origin)) return undefined;
  // Either scheme: behind a proxy that ends TLS, the page's is https and ours http.
  if (origin !== undefined && origin.replace(/^https?:\/\//, "") !== host) return origin;
  const site = [request.headers["sec-fetch-site"] ?? "none"].flat()[0];
  return site === "same-origin" || site === "none" ? undefined : (origin ?? "another site");
}

const digest = (text: string) => createHash("sha256").update(text).digest();

/** Keys are compared as digests, every one of them, so that the time tells neither length nor content. */
function keyCheck(keys: readonly string[]): (request: FastifyRequest) => boolean {
  const digests = keys.map(digest);
  return ({ headers }) => {
    if (digests.length === 0) return true;
    const bearer = /^Bearer +(\S+) *$/i.exec(headers.authorization ?? "")?.[1];
    const sent = [headers["x-api-key"] ?? "", bearer ?? ""].flat().map(digest);
    return digests.filter((known) => sent.filter((one) => timingSafeEqual(known, one)).length > 0).length > 0;
  };
}
