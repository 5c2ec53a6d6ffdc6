/** The checker can fail: each kind of damage to a sound history is told, and the sound one has nothing to tell. */

import { describe, expect, it } from "vitest";
import {
  agent,
  at,
  first,
  gone,
  historyAfter,
  patchEvent,
  patchRow,
  paused,
  type Story,
  saidAfter,
  second,
} from "./story.ts";

it("a sound story has nothing to tell", () => {
  expect(saidAfter(() => {})).toEqual([]);
});

describe("the history", () => {
  const damages: [what: string, damage: (told: Story) => void, sentence: RegExp][] = [
    [
      "with a gap",
      (told) => {
        told.events = told.events.filter((event) => !at(first, 3)(event));
      },
      /^aaaa: the history goes from 2 to 4\.$/,
    ],
    [
      "without its beginning",
      (told) => {
        told.events = told.events.filter((event) => !at(first, 1)(event));
      },
      /^aaaa: the history goes from 0 to 2\.$/,
    ],
    [
      "without its end",
      (told) => {
        told.events = told.events.filter((event) => !at(first, 6)(event));
      },
      /^aaaa: the history ends with 5, the row says 6\.$/,
    ],
    [
      "missing as a whole",
      (told) => {
        told.events = told.events.filter((event) => event.session_id !== second);
      },
      /^bbbb has a row and no history\.$/,
    ],
    [
      "of a session that never was",
      (told) => {
        told.sessions = told.sessions.filter(({ id }) => id !== second);
      },
      /^bbbb has no row; what is left of it is session\.created, session\.deleted instead of session\.purged alone\.$/,
    ],
    [
      "of a purged session that still says something",
      (told) => patchEvent(told, gone, 3, { payload: { context: "secret" } }),
      /^cccc was purged, and its last event still says /,
    ],
    [
      "with a wrong phase",
      (told) => patchRow(told, first, { phase: "idle" }),
      /^aaaa: folding the history gives phase paused, the row has idle\.$/,
    ],
    [
      "with a wrong status",
      (told) => patchRow(told, first, { status: "active" }),
      /^aaaa: folding the history gives status paused, the row has active\.$/,
    ],
    [
      "with a wrong version",
      (told) => patchRow(told, first, { version: 6 }),
      /^aaaa: folding the history gives version 5, the row has 6\.$/,
    ],
    [
      "with a wrong deletion",
      (told) => patchRow(told, second, { deleted: false }),
      /^bbbb: folding the history gives deleted true, the row has false\.$/,
    ],
    [
      "with a version too many",
      (told) => patchEvent(told, first, 2, { session_version: 2 }),
      /^aaaa: event 2, session\.thinking, has version 2 where 1 follows\.$/,
    ],
    [
      "with a change that is not told as one",
      (told) => patchEvent(told, first, 3, { payload: { agent_id: agent, ...paused, updates: ["context"] } }),
      /^aaaa: event 3, session\.updated, goes from phase running to paused, and lists \["context"\]\.$/,
    ],
    [
      "with a transition from elsewhere",
      (told) => patchEvent(told, first, 3, { payload: { agent_id: agent, ...paused, from: "busy" } }),
      /^aaaa: event 3, session\.updated, goes from phase running to paused, and says from busy to paused\.$/,
    ],
    [
      "with a phase that moved unseen",
      (told) => patchEvent(told, first, 4, { payload: { agent_id: agent, status: "paused", phase: "idle" } }),
      /^aaaa: event 4, session\.deleted, moves the phase from paused to idle\.$/,
    ],
    [
      "with a change of what is deleted",
      (told) => patchEvent(told, first, 5, { event_type: "session.updated" }),
      /^aaaa: event 5, session\.updated, changes what is deleted\.$/,
    ],
    [
      "with another agent",
      (told) => patchRow(told, first, { agent_id: "other" }),
      /^aaaa: event 1 is of agent .*, the row of other\.$/,
    ],
    [
      "with an id that two share",
      (told) => patchEvent(told, second, 2, { event_id: `${first}-1` }),
      /^Two events of the history have the id aaaa-1\.$/,
    ],
  ];
  it.each(damages)("%s is told", (_, damage, sentence) => {
    expect(historyAfter(damage)).toContainEqual(expect.stringMatching(sentence));
  });

  it("of a session whose removal is under way is not judged", () => {
    expect(
      historyAfter((told) => {
        told.events = told.events.filter((event) => !at(first, 1)(event));
        patchRow(told, first, { purging: true });
      }),
    ).toEqual([]);
  });

  it("may begin late once events are removed because of their age, and is judged from there", () => {
    const pruned = (told: Story) => {
      told.horizon = 3;
      told.events = told.events.filter(({ position }) => position > 3);
    };
    expect(historyAfter(pruned)).toEqual([]);
    expect(
      historyAfter((told) => {
        pruned(told);
        patchRow(told, first, { phase: "idle" });
      }),
    ).toEqual(["aaaa: folding the history gives phase paused, the row has idle."]);
  });
});
