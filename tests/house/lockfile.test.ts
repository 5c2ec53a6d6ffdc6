import { describe, expect, it } from "vitest";
import { textOf } from "./sources.ts";

interface Entry {
  readonly version?: string;
  readonly resolved?: string;
  readonly integrity?: string;
  readonly link?: boolean;
  readonly os?: readonly string[];
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

const lock = JSON.parse(textOf("package-lock.json")) as { packages: Readonly<Record<string, Entry>> };
const manifest = JSON.parse(textOf("package.json")) as Entry;
const entries = Object.entries(lock.packages);

/** The entry that a package finds when it asks for another one, as Node would: its own folder first, then those above. */
function found(from: string, name: string): Entry | undefined {
  for (let folder = from; ; ) {
    const entry = lock.packages[`${folder === "" ? "" : `${folder}/`}node_modules/${name}`];
    if (entry !== undefined || folder === "") return entry;
    folder = folder.slice(0, Math.max(0, folder.lastIndexOf("node_modules/") - 1));
  }
}

describe("the lock file", () => {
  it("holds every platform of every native package: it was not written on a machine that saw only its own", () => {
    const missing = entries.flatMap(([path, entry]) =>
      Object.entries(entry.optionalDependencies ?? {})
        .filter(([name]) => found(path, name) === undefined)
        .map(([name, version]) => `${path} needs ${name}@${version}`),
    );
    expect(missing).toEqual([]);
  });

  it.each(["", "@biomejs/biome", "esbuild", "rolldown", "typescript"])("knows %j to be native", (name) => {
    const path = name === "" ? "" : `node_modules/${name}`;
    const platforms = Object.keys(lock.packages[path]?.optionalDependencies ?? {}).flatMap(
      (one) => found(path, one)?.os ?? [],
    );
    expect(new Set(platforms).size).toBeGreaterThanOrEqual(3);
  });

  it("names no registry: whoever installs asks their own", () => {
    const named = entries.filter(([, { resolved, link }]) => {
      return resolved !== undefined && link !== true;
    });
    expect(named.map(([path, { resolved }]) => `${path}: ${resolved}`)).toEqual([]);
  });

  it("has a checksum for everything that is downloaded", () => {
    const downloaded = entries.filter(([path, { link }]) => path.includes("node_modules/") && link !== true);
    expect(downloaded.length).toBeGreaterThan(100);
    expect(downloaded.filter(([, { integrity }]) => integrity === undefined).map(([path]) => path)).toEqual([]);
  });

  it("is that of package.json, whose versions are exact", () => {
    const own = lock.packages[""];
    for (const kind of ["dependencies", "devDependencies", "optionalDependencies"] as const) {
      expect(own?.[kind], kind).toEqual(manifest[kind]);
      for (const [name, version] of Object.entries(manifest[kind] ?? {})) {
        expect(version, name).toMatch(/^\d+\.\d+\.\d+(-[\w.]+)?$/);
        expect(found("", name)?.version, name).toBe(version);
      }
    }
  });

  it("leaves the types that the build needs in an install without development tools", () => {
    const typed = Object.keys(manifest.devDependencies ?? {}).filter((name) => {
      const library = name.replace(/^@types\//, "");
      return name.startsWith("@types/") && manifest.dependencies?.[library] !== undefined;
    });
    expect(typed).toEqual([]);
  });
});
