import { expect, test } from "vitest";
import { movement } from "../../bench/compare/baseline.ts";
import type { Figures } from "../../bench/compare/measure.ts";
import { type Cell, cellOf } from "../../bench/compare/results.ts";
import { verdictsOf } from "../../bench/compare/thresholds.ts";

function figures(perSecond: number, p50Ms: number, p99Ms = p50Ms): Figures {
  return { perSecond, p50Ms, p99Ms, errors: 0, requests: 1, nodeUs: 0, postgresUs: 0, behind: 0 };
}

const rounds = [
  { service: figures(200, 0.5, 4), control: figures(100, 1, 2) },
  // The machine had become slower for both.
  { service: figures(20, 5, 40), control: figures(10, 10, 20) },
  { service: figures(300, 0.5, 2), control: figures(100, 1, 2) },
];

function cell(operation: Cell["operation"], connections: number, side: Cell["side"] = "service"): Cell {
  const measured = cellOf(
    operation,
    connections,
    side,
    rounds.map(({ service, control }) => ({ [side]: service, control })),
  );
  if (measured === undefined) throw new Error("nothing was measured");
  return measured;
}

test("the ratio is taken within each round, so that a slow machine moves it little", () => {
  expect(cell("get", 32)).toMatchObject({ of: "throughput", ratio: { median: 2, low: 2, high: 3 } });
});

test("at one connection the ratio is that of the latency", () => {
  expect(cell("get", 1)).toMatchObject({ of: "p50", ratio: { median: 0.5, low: 0.5, high: 0.5 } });
});

test("a side that was not measured has no ratio", () => {
  expect(cellOf("get", 32, "off", rounds)).toBeUndefined();
});

test("a threshold is held against the middle: latency at most, requests a second at least", () => {
  const slow = { ...cell("get", 1), ratio: { median: 1.16, low: 0.5, high: 2 } };
  expect(verdictsOf(slow)).toMatchObject([{ holds: false, expectation: "1.16 of at most 1.15" }]);
  const few = { ...cell("get", 256), ratio: { median: 1.79, low: 1, high: 2 } };
  expect(verdictsOf(few)).toMatchObject([{ holds: false, expectation: "1.79 of at least 1.80" }]);
  expect(verdictsOf(cell("get", 256))).toMatchObject([{ holds: true }]);
});

test("at 32 connections the 99th percentile has a threshold of its own", () => {
  expect(verdictsOf(cell("get", 32)).map(({ holds }) => holds)).toEqual([true, false]);
});

test("with coalescing off there are thresholds at 32 connections alone", () => {
  expect(verdictsOf(cell("get", 32, "off"))).toMatchObject([{ expectation: "2.00 of at least 0.90" }]);
  expect(verdictsOf(cell("get", 256, "off"))).toEqual([]);
});

test("a ratio has moved once neither middle lies within the other's spread", () => {
  const key = "get 256 throughput";
  const now = { ...cell("get", 256), ratio: { median: 2, low: 1.9, high: 2.1 } };
  const moved = (median: number, low: number, high: number) => movement(now, { [key]: { median, low, high } });
  expect(moved(1.5, 1.4, 1.6)).toBe("1.50 → 2.00, BETTER");
  expect(moved(2.5, 2.4, 2.6)).toBe("2.50 → 2.00, WORSE");
  expect(moved(1.5, 1.4, 2.05)).toBe("1.50 → 2.00, within the spread");
  expect(movement(now, {})).toBe("");
});

test("of a latency, less is better", () => {
  const now = { ...cell("get", 1), ratio: { median: 1, low: 0.9, high: 1.1 } };
  expect(movement(now, { "get 1 p50": { median: 1.5, low: 1.4, high: 1.6 } })).toBe("1.50 → 1.00, BETTER");
});
