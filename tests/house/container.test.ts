import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { settings } from "../../src/config.ts";
import { root, textOf } from "./sources.ts";

interface Instruction {
  readonly name: string;
  readonly text: string;
}

/** The instructions of a Dockerfile, continued lines joined. */
function instructionsOf(dockerfile: string): Instruction[] {
  return dockerfile
    .split("\n")
    .filter((line) => !line.startsWith("#"))
    .join("\n")
    .replace(/\\\n/g, " ")
    .split("\n")
    .filter((line) => line.trim() !== "")
    .map((line) => {
      const [, name = "", text = ""] = /^([A-Z]+)\s+(.*)$/.exec(line) ?? [];
      return { name, text: text.replace(/\s+/g, " ") };
    });
}

describe("the Dockerfile", () => {
  const instructions = instructionsOf(textOf("Dockerfile"));
  const texts = (name: string) => instructions.filter((one) => one.name === name).map(({ text }) => text);
  const lastStage = instructions.slice(instructions.findLastIndex(({ name }) => name === "FROM"));
  const inLast = (name: string) => lastStage.filter((one) => one.name === name).map(({ text }) => text);
  const stages = texts("FROM").map((text) => / AS (\w+)$/.exec(text)?.[1]);

  it("has instructions that Docker knows", () => {
    const known = ["ARG", "FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "EXPOSE", "HEALTHCHECK", "CMD"];
    expect(instructions.filter(({ name }) => !known.includes(name))).toEqual([]);
    expect(instructions.length).toBeGreaterThan(15);
  });

  it("names its stages, starts each from a version that is said, and copies from those it has", () => {
    expect(stages).toEqual(["build", "dependencies", "service"]);
    expect(texts("ARG")).toEqual(["NODE_VERSION=22"]);
    for (const from of texts("FROM")) expect(from).toMatch(/^node:\$\{NODE_VERSION\}-slim AS /);
    for (const copy of texts("COPY").filter((text) => text.startsWith("--from="))) {
      expect(stages).toContain(/^--from=(\w+)/.exec(copy)?.[1]);
    }
  });

  it("copies only what is there and what .dockerignore lets in", () => {
    const ignore = textOf(".dockerignore")
      .split("\n")
      .filter((line) => line !== "" && !line.startsWith("#"));
    expect(ignore[0]).toBe("*");
    const letIn = ignore.slice(1).map((line) => line.replace(/^!/, ""));
    const copied = texts("COPY")
      .filter((text) => !text.startsWith("--"))
      .flatMap((text) => text.split(" ").slice(0, -1));
    expect(new Set(copied)).toEqual(new Set(letIn));
    expect(copied.filter((path) => !existsSync(join(root, path)))).toEqual([]);
  });

  it("installs what the lock file says, and leaves development tools out of what runs", () => {
    const installs = texts("RUN").filter((text) => text.startsWith("npm ci"));
    expect(installs).toHaveLength(2);
    expect(installs[1]).toContain("--omit=dev");
    expect(texts("RUN").some((text) => /npm (install|i)\b/.test(text))).toBe(false);
  });

  it("does not run as root, and runs the program itself: no shell stands between it and SIGTERM", () => {
    expect(inLast("USER").at(-1)).toBe("node");
    const [command, ...more] = inLast("CMD");
    expect(more).toEqual([]);
    expect(JSON.parse(command ?? "")).toEqual(["node", "bin/session-service.cjs", "serve"]);
    expect(existsSync(join(root, "bin/session-service.cjs"))).toBe(true);
  });

  it("listens outside the container on the port it says, and asks its health without other tools than node", () => {
    expect(inLast("ENV").join(" ")).toMatch(/HOST=0\.0\.0\.0/);
    expect(inLast("ENV").join(" ")).toMatch(new RegExp(`PORT=${settings.PORT.byDefault}`));
    expect(inLast("EXPOSE")).toEqual([settings.PORT.byDefault]);
    const [, check = ""] = /CMD (\[.*\])$/.exec(inLast("HEALTHCHECK")[0] ?? "") ?? [];
    const [program, option, script] = JSON.parse(check) as string[];
    expect([program, option]).toEqual(["node", "-e"]);
    expect(script).toContain("/health/live");
    expect(() => new Function(script ?? "")).not.toThrow();
  });
});

interface Service {
  readonly image?: string;
  readonly build?: string;
  readonly command?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly ports?: readonly string[];
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>;
  readonly healthcheck?: { readonly test?: readonly string[]; readonly disable?: boolean };
  readonly stop_grace_period?: string;
  readonly volumes?: readonly string[];
  readonly read_only?: boolean;
  readonly restart?: string;
}

describe("docker-compose.yml", () => {
  const text = textOf("docker-compose.yml");
  const compose = parse(text, { merge: true }) as {
    services: Readonly<Record<string, Service>>;
    volumes: Readonly<Record<string, unknown>>;
  };
  const { services } = compose;
  const service = (name: string): Service => {
    const one = services[name];
    if (one === undefined) throw new Error(`there is no service ${name}`);
    return one;
  };

  it("has the service, its migrations, PostgreSQL and Redis, and keys that Compose knows", () => {
    expect(Object.keys(services)).toEqual(["session-service", "migrate", "postgres", "redis"]);
    const known =
      /^(image|build|command|environment|ports|depends_on|healthcheck|stop_grace_period|volumes|read_only|tmpfs|cap_drop|security_opt|restart|shm_size)$/;
    for (const [name, one] of Object.entries(services)) {
      expect(
        Object.keys(one).filter((key) => !known.test(key)),
        name,
      ).toEqual([]);
    }
  });

  it("pins its images", () => {
    for (const [name, { image }] of Object.entries(services)) expect(image, name).toMatch(/^[a-z-]+:\d[\w.-]*$/);
  });

  it("migrates once, before the service starts, and never in the service", () => {
    expect(service("migrate").command).toEqual(["node", "bin/session-service.cjs", "migrate"]);
    expect(service("migrate").restart).toBe("no");
    expect(service("migrate").depends_on).toEqual({ postgres: { condition: "service_healthy" } });
    expect(service("session-service").environment?.["MIGRATE"]).toBe("off");
    expect(service("session-service").depends_on).toEqual({
      migrate: { condition: "service_completed_successfully" },
      postgres: { condition: "service_healthy" },
      redis: { condition: "service_healthy" },
    });
  });

  it("asks each server whether it is well, the service whether it is ready", () => {
    for (const name of ["session-service", "postgres", "redis"]) {
      expect(service(name).healthcheck?.test?.[0], name).toBe("CMD");
    }
    const script = service("session-service").healthcheck?.test?.at(-1) ?? "";
    expect(script).toContain("/health/ready");
    expect(() => new Function(script)).not.toThrow();
    expect(service("postgres").healthcheck?.test).toContain("pg_isready");
    expect(service("redis").healthcheck?.test).toEqual(["CMD", "redis-cli", "ping"]);
  });

  it("can be reached from this machine alone, the service by its own name too", () => {
    expect(Object.values(services).flatMap(({ ports }) => ports ?? [])).toEqual(["127.0.0.1:8011:8011"]);
    expect(service("session-service").environment?.["ALLOWED_HOSTS"]).toContain("session-service");
  });

  it("gives the service more time to stop than it takes", () => {
    const { stop_grace_period: grace = "0s", environment } = service("session-service");
    const requestsEventsAndDatabase = 3 + 1.5 + 5;
    const needed = Number(environment?.["STOP_DELAY_MS"]) / 1000 + requestsEventsAndDatabase;
    expect(Number.parseInt(grace, 10)).toBeGreaterThan(needed);
  });

  it("uses settings that there are, as text, and keeps the data in a volume that it declares", () => {
    for (const name of ["session-service", "migrate"]) {
      for (const [setting, value] of Object.entries(service(name).environment ?? {})) {
        expect(Object.keys(settings), name).toContain(setting);
        expect(typeof value, setting).toBe("string");
      }
    }
    const [volume = ""] = service("postgres").volumes ?? [];
    expect(Object.keys(compose.volumes)).toContain(volume.split(":")[0]);
  });

  it("holds no secret but a default for development, the same wherever it is needed", () => {
    const passwords = [...text.matchAll(/\$\{POSTGRES_PASSWORD:-(\w+)\}/g)].map((match) => match[1]);
    expect(passwords).toEqual(["development", "development"]);
    expect(text.replace(/\$\{[^}]*\}/g, "")).not.toMatch(/password[:=][ \t]*\w/i);
  });

  it("lets the service write nowhere but in its temporary folder", () => {
    for (const name of ["session-service", "migrate"]) {
      expect(services[name]).toMatchObject({ read_only: true, tmpfs: ["/tmp"], cap_drop: ["ALL"] });
    }
  });
});
